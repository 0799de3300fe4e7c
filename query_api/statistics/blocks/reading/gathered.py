"""What is known of each group while blocks and readings are gathered, and the runs that follow from them."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Self

import msgspec
import numpy as np

from query_api.statistics.blocks import exact
from query_api.statistics.blocks.layout import AXES, Floats, Ints, Layout, Times, spread
from query_api.statistics.blocks.reading.pieces import Unkept
from query_api.statistics.blocks.selection.runs import Runs

_AXES = len(AXES)
_NONE = np.empty(0, np.int64)
Three = Sequence[Floats]
"""Values of x, y and z."""


class Blocks(msgspec.Struct, frozen=True):
    """Whole blocks in columns: device, level, first time, count, and the group that each counts for.

    `marks`: of each block those of x, y and z, one block after the other.
    """

    device: Ints
    level: Ints
    first: Times
    count: Ints
    group: Ints
    marks: Floats

    def __len__(self) -> int:
        return len(self.device)


class _Marked(msgspec.Struct, frozen=True):
    """Runs: the list of each, its number of values, and its marks."""

    of: Ints
    counts: Ints
    marks: Floats


class SortedLists(msgspec.Struct, frozen=True):
    """Sorted lists of values, one after the other: the number, the first position and the length of each."""

    of: Ints
    start: Ints
    size: Ints
    values: Floats

    @classmethod
    def sorted(cls, of: Ints, size: Ints, values: Floats) -> Self:
        """Sort the values of each list in place."""
        start = np.cumsum(size) - size
        for begin, end in zip(start.tolist(), (start + size).tolist(), strict=True):
            values[begin:end].sort()
        return cls(of, start, size, values)

    def __len__(self) -> int:
        return len(self.of)

    def at(self, ranks: Ints) -> Floats:
        """Return the values at these ranks of each list. Shape of both: (…, lists).

        The rank of a list without values is 0; its value has no meaning.
        """
        start = np.zeros(ranks.shape[-1], np.int64)
        start[self.of] = self.start
        return self.values[start + ranks] if len(self) else np.zeros(ranks.shape)


class Gathered:
    """Sums and ranges of groups, their blocks, and readings that were read one by one.

    The list of an axis and a group is numbered axis * groups + group. The id of a run is block * 3 + axis; behind
    those, the place in `local`; and behind those, piece * 3 + axis.
    """

    def __init__(self, groups: int, *, with_squares: bool) -> None:
        self.groups = groups
        self.count = np.zeros(groups, np.int64)
        self.values = 0  # that `runs` sorts or copies
        self.kept = 0  # readings whose values are kept
        self.from_blocks = 0
        self.least = np.full((_AXES, groups), np.inf)
        self.greatest = np.full((_AXES, groups), -np.inf)
        self.totals = [[exact.ZERO] * groups for _ in AXES]
        self.squares = [[exact.ZERO] * groups for _ in AXES] if with_squares else None
        self.local = SortedLists(_NONE, _NONE, _NONE, np.empty(0))
        self.pieces: list[Unkept] = []
        self._blocks: list[Blocks] = []
        self._marked: list[tuple[int, int, Sequence[Floats]]] = []  # group, count and marks of each piece
        self._read: list[tuple[int, Three]] = []

    def add_blocks(
        self, blocks: Blocks, ranges: Sequence[float], totals: Sequence[Decimal], squares: Sequence[Decimal] | None
    ) -> None:
        """Add blocks of one group, with their ranges and sums."""
        group = int(blocks.group[0])
        self._blocks.append(blocks)
        self.values += len(blocks.marks)
        self.count[group] += blocks.count.sum()
        self.from_blocks += int(blocks.count.sum())
        for axis in range(_AXES):
            self._widen(axis, group, ranges[2 * axis], ranges[2 * axis + 1])
            self.totals[axis][group] = exact.add(self.totals[axis][group], totals[axis])
            if self.squares is not None and squares is not None:
                self.squares[axis][group] = exact.add(self.squares[axis][group], squares[axis])

    def add_readings(self, group: int, axes: Three, *, from_blocks: bool = False) -> None:
        """Add readings of one group."""
        if len(axes[0]) == 0:
            return
        self.count[group] += len(axes[0])
        self.from_blocks += len(axes[0]) if from_blocks else 0
        self.values += _AXES * len(axes[0])
        self.kept += len(axes[0])
        self._read.append((group, axes))

    def add_piece(self, group: int, piece: Unkept, axes: Three, layout: Layout, *, from_blocks: bool = False) -> None:
        """Add readings of one group, of which only the marks are kept."""
        count = len(axes[0])
        if count == 0:
            return
        self.count[group] += count
        self.from_blocks += count if from_blocks else 0
        places = layout.mark_positions(np.array([count]))
        in_order = [np.sort(values + 0.0) for values in axes]
        size = np.full(_AXES, count)
        of = np.arange(_AXES) * self.groups + group
        self._add_sums(SortedLists(of, np.arange(_AXES) * count, size, np.concatenate(in_order)))
        self.pieces.append(piece)
        self._marked.append((group, count, [values[places] for values in in_order]))

    @property
    def is_local(self) -> bool:
        """Whether all values are in `local`, once they are sorted."""
        return not self._blocks and not self.pieces

    @property
    def rows(self) -> int:
        """The number of readings that no block contains."""
        return int(self.count.sum()) - self.from_blocks

    def _widen(self, axis: int, group: int, least: float, greatest: float) -> None:
        self.least[axis, group] = min(self.least[axis, group], least)
        self.greatest[axis, group] = max(self.greatest[axis, group], greatest)

    def blocks(self) -> Blocks:
        """Return all blocks."""
        if not self._blocks:
            return Blocks(_NONE, _NONE, _NONE, _NONE, _NONE, np.empty(0))
        names = Blocks.__struct_fields__  # msgspec.structs.fields() reads the types, which takes 0.3 ms
        return Blocks(*(np.concatenate([getattr(some, name) for some in self._blocks]) for name in names))

    def runs(self, blocks: Blocks, layout: Layout) -> Runs:
        """Return the runs of all lists: those of the blocks, one of the readings of each list, and those of pieces."""
        known = [*self._of_blocks(blocks, layout), self._of_readings(layout), *self._of_pieces()]
        of = np.concatenate([one.of for one in known])
        counts = np.concatenate([one.counts for one in known])
        return Runs.grouped(
            of=of,
            id=self._ids(blocks, len(of)),
            end=counts,
            samples=layout.mark_counts(counts),
            value=np.concatenate([one.marks for one in known]),
            position=layout.mark_positions(counts),
        )

    def whole_runs(self, blocks: Blocks) -> Runs:
        """Return the runs of the blocks and of the readings without samples. There are no pieces."""
        of = np.concatenate([*(axis * self.groups + blocks.group for axis in range(_AXES)), self.local.of])
        end = np.concatenate([*[blocks.count] * _AXES, self.local.size])
        none = np.zeros(len(of), np.int64)
        return Runs.grouped(
            of=of, id=self._ids(blocks, len(of)), end=end, samples=none, value=np.empty(0), position=_NONE
        )

    @staticmethod
    def _ids(blocks: Blocks, runs: int) -> Ints:
        """Return the ids of runs: those of the blocks axis by axis, and the others in order."""
        of_blocks = np.arange(len(blocks)) * _AXES
        others = np.arange(len(blocks) * _AXES, runs)
        return np.concatenate([*(of_blocks + axis for axis in range(_AXES)), others])

    def _of_blocks(self, blocks: Blocks, layout: Layout) -> Iterable["_Marked"]:
        """Yield the runs of each axis."""
        samples = layout.mark_counts(blocks.count)
        starts = np.repeat(_AXES * (np.cumsum(samples) - samples), samples) + spread(samples)
        for axis in range(_AXES):
            marks = blocks.marks[starts + axis * np.repeat(samples, samples)]
            yield _Marked(axis * self.groups + blocks.group, blocks.count, marks)

    def _of_readings(self, layout: Layout) -> "_Marked":
        own = self.local
        places = np.repeat(own.start, layout.mark_counts(own.size)) + layout.mark_positions(own.size)
        return _Marked(own.of, own.size, own.values[places])

    def _of_pieces(self) -> Iterable["_Marked"]:
        for group, count, marks in self._marked:
            of = np.arange(_AXES) * self.groups + group
            yield _Marked(of, np.full(_AXES, count), np.concatenate(marks))

    def sort_readings(self) -> None:
        """Sort the readings of each list into `local`, and add them up. No more are added afterwards."""
        if not self._read:
            return
        parts = sorted(self._read, key=_first)
        group = np.array([of for of, _ in parts])
        sizes = np.bincount(group, [len(axes[0]) for _, axes in parts], self.groups).astype(np.int64)
        groups = np.flatnonzero(sizes)
        values = np.concatenate([axes[axis] for axis in range(_AXES) for _, axes in parts]) + 0.0  # zeros have no sign
        of = (np.arange(_AXES)[:, np.newaxis] * self.groups + groups).ravel()
        self.local = SortedLists.sorted(of, np.tile(sizes[groups], _AXES), values)
        self._read = []
        self._add_sums(self.local)

    def _add_sums(self, lists: SortedLists) -> None:
        axis, group = np.divmod(lists.of, self.groups)
        self.least[axis, group] = np.minimum(self.least[axis, group], lists.values[lists.start])
        self.greatest[axis, group] = np.maximum(self.greatest[axis, group], lists.values[lists.start + lists.size - 1])
        sizes = lists.size.tolist()
        _add(self.totals, axis, group, exact.totals(lists.values, sizes))
        if self.squares is not None:
            _add(self.squares, axis, group, exact.totals_of_squares(lists.values, sizes))


def _first(part: tuple[int, Three]) -> int:
    return part[0]


def _add(sums: Sequence[list[Decimal]], axes: Ints, groups: Ints, added: Sequence[Decimal]) -> None:
    for axis, group, one in zip(axes.tolist(), groups.tolist(), added, strict=True):
        sums[axis][group] = exact.add(sums[axis][group], one)
