"""Order statistics of gathered lists, and of their absolute deviations: by marks, then guides, then values."""

from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np

from query_api.statistics.blocks.computing import computed
from query_api.statistics.blocks.layout import AXES, Floats, Ints, Layout
from query_api.statistics.blocks.reading.gathered import Blocks, Gathered, SortedLists
from query_api.statistics.blocks.reading.slices import read_guides, read_values
from query_api.statistics.blocks.selection.deviations import Mirrored
from query_api.statistics.blocks.selection.narrowing import Narrowed, Samples, narrow_all
from query_api.statistics.blocks.selection.runs import Runs
from shared.postgres.connections import Connection


class Lists(msgspec.Struct):
    """The lists of what was gathered, with their runs, and how the guides and values of runs are read."""

    connection: Connection
    gathered: Gathered
    blocks: Blocks
    layout: Layout
    _runs: Runs | None = None

    @classmethod
    async def of(cls, connection: Connection, gathered: Gathered, layout: Layout) -> "Lists":
        """Sort the gathered readings, and add them up."""
        await computed(gathered.values, gathered.sort_readings)
        return cls(connection, gathered, gathered.blocks(), layout)

    async def runs(self) -> Runs:
        """Return the runs with their marks."""
        if self._runs is None:
            gathered = self.gathered
            self._runs = await computed(gathered.values, lambda: gathered.runs(self.blocks, self.layout))
        return self._runs

    async def all_values(self) -> SortedLists:
        """Return all values. There are no pieces."""
        runs = self.gathered.whole_runs(self.blocks)
        sizes = runs.sizes(self.number)
        of = np.flatnonzero(sizes)
        return SortedLists.sorted(of, sizes[of], (await self.values(runs)).copy())

    @property
    def number(self) -> int:
        """The number of the lists."""
        return len(AXES) * self.gathered.groups

    @property
    def counts(self) -> Ints:
        """The number of values of each list."""
        return np.tile(self.gathered.count, len(AXES))

    async def guides(self, runs: Runs) -> Samples:
        """Return the guides in the runs."""
        return await read_guides(self.connection, self.blocks, runs, self.layout)

    async def values(self, runs: Runs) -> Floats:
        """Return the values of the runs, one after the other."""
        return await read_values(self.connection, self.blocks, self.gathered, runs, self.layout)


class _Deviations(msgspec.Struct, frozen=True):
    """Guides and values of mirrored runs, by those of the original runs."""

    lists: Lists
    mirrored: Mirrored

    async def guides(self, runs: Runs) -> Samples:
        guides = await self.lists.guides(self.mirrored.original(runs))
        return await computed(len(guides.value), partial(self.mirrored.guides, runs, guides))

    async def values(self, runs: Runs) -> Floats:
        values = await self.lists.values(self.mirrored.original(runs))
        return await computed(len(values), partial(self.mirrored.values, runs, values))


async def order_statistics(lists: Lists, fractions: Sequence[float], whole: int, few: int) -> Floats:
    """Return the values at the two ranks of each fraction: shape (2, fractions, lists).

    `whole`: readings of which all values are read. `few`: values that are read without guides.
    """
    if not fractions:
        return np.empty((2, 0, lists.number))
    low_ranks, high_ranks = ranks(lists.counts, fractions)
    gathered = lists.gathered
    if gathered.is_local:
        return gathered.local.at(np.stack((low_ranks, high_ranks)))
    if not gathered.pieces and gathered.count.sum() <= whole:
        return (await lists.all_values()).at(np.stack((low_ranks, high_ranks)))
    runs = await lists.runs()
    narrow = partial(narrow_all, runs, lists.number, low_ranks, high_ranks)
    return await _found(lists, await computed(len(fractions) * len(runs.value), narrow), few)


async def median_deviations(lists: Lists, center: Floats, few: int) -> Floats:
    """Return the two middle values of the absolute deviations from the center of each list: shape (2, lists)."""
    low_ranks, high_ranks = ranks(lists.counts, [0.5])
    runs = await lists.runs()

    def narrow() -> tuple[Mirrored, Narrowed]:
        mirrored = Mirrored.of(runs, center)
        own = [mirrored.ranks(lists.counts, ranks) for ranks in (low_ranks, high_ranks)]
        return mirrored, narrow_all(mirrored.runs, lists.number, *own)

    mirrored, narrowed = await computed(2 * len(runs.value), narrow)
    return (await _found(_Deviations(lists, mirrored), narrowed, few))[:, 0]


async def _found(source: Lists | _Deviations, narrowed: Narrowed, few: int) -> Floats:
    if narrowed.size > few:
        guides = await source.guides(narrowed.runs)
        narrowed = await computed(len(guides.value), partial(narrowed.refined, guides))
    values = await source.values(narrowed.runs)
    return await computed(len(values), partial(narrowed.found, values))


def ranks(counts: Ints, fractions: Sequence[float]) -> tuple[Ints, Ints]:
    """Return floor and ceil of p (count - 1) for each fraction p and each count; 0 for a count of 0."""
    places = np.asarray(fractions)[:, np.newaxis] * np.maximum(counts - 1, 0).astype(np.float64)
    return np.floor(places).astype(np.int64), np.ceil(places).astype(np.int64)
