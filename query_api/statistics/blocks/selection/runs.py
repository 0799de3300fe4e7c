"""Sorted runs of values of which only samples are known, and what the samples say about ranks.

A list is what is ranked, such as the x of one device in one period. It consists of runs, each sorted: the x of a block
is one. The samples of a run are some of its values with their positions.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Self

import msgspec
import numpy as np

from query_api.statistics.blocks.layout import Floats, Ints, spread


class Runs(msgspec.Struct, frozen=True):
    """Runs, and their samples one run after the other.

    For each run: `of`: its list, ascending. `id`: its name where its values are read. `start`, `end`: the positions
    of its values, `end` excluded. `samples`: how many of its values are known.

    For each sample: `value` and `position`, ascending within a run, from `start` to `end`.
    """

    of: Ints
    id: Ints
    start: Ints
    end: Ints
    samples: Ints
    value: Floats
    position: Ints

    @classmethod
    def grouped(cls, of: Ints, id: Ints, end: Ints, samples: Ints, value: Floats, position: Ints) -> Self:  # noqa: A002
        """Return runs that start at 0. Their lists may be in any order."""
        start = np.zeros(len(of), np.int64)
        if np.all(of[:-1] <= of[1:]):
            return cls(of, id, start, end, samples, value, position)
        order = np.argsort(of, kind="stable")
        moved = samples[order]
        taken = np.repeat((np.cumsum(samples) - samples)[order], moved) + spread(moved)
        return cls(of[order], id[order], start, end[order], moved, value[taken], position[taken])

    def __len__(self) -> int:
        return len(self.of)

    @property
    def run(self) -> Ints:
        """The run of each sample."""
        return np.repeat(np.arange(len(self.of)), self.samples)

    @property
    def size(self) -> Ints:
        """The number of values of each run."""
        return self.end - self.start

    def in_parts(self, part: Ints) -> Iterator[Self]:
        """Yield the runs of each part. `part`: that of each run, in ascending order."""
        first = np.flatnonzero(np.diff(part, prepend=-1))
        behind = np.concatenate(([0], np.cumsum(self.samples)))
        for begin, end in pairwise([*first.tolist(), len(self)]):
            runs, samples = slice(begin, end), slice(behind[begin], behind[end])
            of_runs = self.of[runs], self.id[runs], self.start[runs], self.end[runs], self.samples[runs]
            yield type(self)(*of_runs, self.value[samples], self.position[samples])

    def sizes(self, lists: int) -> Ints:
        """Return the number of values of each list."""
        return _summed(self.of, self.size, lists)


class Slices(msgspec.Struct, frozen=True):
    """Parts of runs, in the order of their lists: `run`, and its positions from `start` to `end`, which is excluded."""

    run: Ints
    start: Ints
    end: Ints


def brackets(runs: Runs, lists: int, low_ranks: Ints, high_ranks: Ints) -> tuple[Floats, Floats]:
    """Return, for each list, values `low` and `high` with low <= x[low rank] <= x[high rank] <= high.

    x is the list in ascending order, and ranks begin at 0. The bounds are samples, or infinite where no sample is one.
    Shape of the ranks and of the bounds: (figures, lists).
    """
    low, high = np.full(low_ranks.shape, -np.inf), np.full(low_ranks.shape, np.inf)
    if len(runs.value) == 0:
        return low, high
    of = runs.of[runs.run]
    edges = np.concatenate(([0], np.cumsum(np.bincount(of, minlength=lists))))
    order = _order_in_lists(runs.value, of, edges)
    value = runs.value[order]
    at_most, below, unknown = _counts(runs, order, lists)
    begin, end = edges[:-1], edges[1:]
    for figure, (low_rank, high_rank) in enumerate(zip(low_ranks, high_ranks, strict=True)):
        place = np.searchsorted(below, below[begin] + low_rank - unknown, side="right") - 1
        place = np.minimum(place, end - 1)
        is_bound = (low_rank >= unknown) & (begin < end)
        low[figure, is_bound] = value[place[is_bound]]
        place = np.searchsorted(at_most, at_most[begin] + high_rank + 1) - 1
        is_bound = (begin <= place) & (place < end)
        high[figure, is_bound] = value[place[is_bound]]
    return low, high


def _counts(runs: Runs, order: Ints, lists: int) -> tuple[Ints, Ints, Ints]:
    """Return running counts over the samples in ascending order, and for each list how many values are unknown.

    A sample and the values before it, back to the previous sample of its run, are at most the sample: `at_most`. It and
    those behind it, up to the next sample, are the only ones that may be below a greater sample: `below`. Values before
    the first sample of a run may be below any sample: unknown.
    """
    has_samples = runs.samples > 0
    first = (np.cumsum(runs.samples) - runs.samples)[has_samples]
    last = (np.cumsum(runs.samples) - 1)[has_samples]
    previous = np.empty_like(runs.position)
    previous[1:] = runs.position[:-1] + 1
    previous[first] = runs.start[has_samples]
    following = np.empty_like(runs.position)
    following[:-1] = runs.position[1:]
    following[last] = runs.end[has_samples]
    before_samples = runs.size
    before_samples[has_samples] = runs.position[first] - runs.start[has_samples]
    at_most = np.concatenate(([0], np.cumsum((runs.position + 1 - previous)[order])))
    below = np.concatenate(([0], np.cumsum((following - runs.position)[order])))
    return at_most, below, _summed(runs.of, before_samples, lists)


_SHORT = 16
"""Samples of a list below which lexsort is faster than a sort of each list."""


def _order_in_lists(value: Floats, of: Ints, edges: Ints) -> Ints:
    """Return the order of the samples by list and value. Samples of equal values may be in any order."""
    lists = len(edges) - 1
    if len(value) < _SHORT * lists:
        return np.lexsort((value, of))
    order = np.argsort(of, kind="stable")
    for begin, end in pairwise(edges.tolist()):
        own = order[begin:end]
        own[:] = own[np.argsort(value[own])]
    return order


def narrow(runs: Runs, low: Floats, high: Floats) -> tuple[Slices, Ints]:
    """Return the slices of the runs whose values may lie strictly between `low` and `high` of their list.

    Also return, for each list, the number of values before its slices: these are at most `low`. Values behind the
    slices are at least `high`. Where `low` is `high`, there are no slices.
    """
    run, number, lists = runs.run, len(runs.of), len(low)
    of = runs.of[run]
    at_most_low = np.bincount(run[runs.value <= low[of]], minlength=number)
    below_high = np.bincount(run[runs.value < high[of]], minlength=number)
    first = np.cumsum(runs.samples) - runs.samples
    position = np.append(runs.position, 0)  # so that each index below is within it
    start = np.where(at_most_low > 0, position[first + at_most_low - 1] + 1, runs.start)
    end = np.where(below_high < runs.samples, position[np.minimum(first + below_high, len(position) - 1)], runs.end)
    end = np.maximum(start, end)
    before = _summed(runs.of, start - runs.start, lists)
    kept = np.flatnonzero((start < end) & (low < high)[runs.of])
    return Slices(kept, start[kept], end[kept]), before


def _summed(of: Ints, numbers: Ints, lists: int) -> Ints:
    """Return the sum of the numbers of each list."""
    return np.bincount(of, weights=numbers, minlength=lists).astype(np.int64)
