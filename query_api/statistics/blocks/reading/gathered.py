"""What is known of each group while blocks and readings are gathered, and the runs that follow from them."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec
import numpy as np

from query_api.statistics.blocks import exact
from query_api.statistics.blocks.layout import AXES, Floats, Ints, Layout, Times, spread
from query_api.statistics.blocks.reading.pieces import Piece
from query_api.statistics.blocks.runs import Runs

_AXES = len(AXES)
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


class Gathered:
    """Sums and ranges of groups, their blocks, and readings that were read one by one.

    The list of an axis and a group is numbered axis * groups + group. The id of a run is block * 3 + axis; behind
    those, the place in `local`; and behind those, piece * 3 + axis.
    """

    def __init__(self, groups: int, *, with_squares: bool) -> None:
        self.groups = groups
        self.count = np.zeros(groups, np.int64)
        self.values = 0  # that `runs` sorts or copies
        self.from_blocks = 0
        self.least = np.full((_AXES, groups), np.inf)
        self.greatest = np.full((_AXES, groups), -np.inf)
        self.totals = [[exact.ZERO] * groups for _ in AXES]
        self.squares = [[exact.ZERO] * groups for _ in AXES] if with_squares else None
        self.local: list[Floats] = []
        self.pieces: list[Piece] = []
        self._blocks: list[Blocks] = []
        self._marked: list[tuple[int, int, Sequence[Floats]]] = []  # group, count and marks of each piece
        self._read: list[list[list[Floats]]] = [[[] for _ in range(groups)] for _ in AXES]

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
        for axis, values in enumerate(axes):
            self._read[axis][group].append(values)

    def add_piece(self, group: int, piece: Piece, axes: Three, layout: Layout) -> None:
        """Add readings of one group, of which only the marks are kept."""
        count = len(axes[0])
        if count == 0:
            return
        self.count[group] += count
        places = layout.mark_positions(np.array([count]))
        in_order = [np.sort(values + 0.0) for values in axes]
        for axis, values in enumerate(in_order):
            self._add_sums(axis, group, values)
        self.pieces.append(piece)
        self._marked.append((group, count, [values[places] for values in in_order]))

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
            none = np.empty(0, np.int64)
            return Blocks(none, none, none, none, none, np.empty(0))
        fields = msgspec.structs.fields(Blocks)
        return Blocks(*(np.concatenate([getattr(some, field.name) for some in self._blocks]) for field in fields))

    def runs(self, blocks: Blocks, layout: Layout) -> Runs:
        """Return the runs of all lists: those of the blocks, one of the readings of each list, and those of pieces."""
        known = [*self._of_blocks(blocks, layout), *self._of_readings(layout), *self._of_pieces()]
        of = np.concatenate([one.of for one in known])
        counts = np.concatenate([one.counts for one in known])
        return Runs.grouped(
            of=of,
            id=np.concatenate(
                [np.arange(len(blocks)) * _AXES + axis for axis in range(_AXES)]
                + [np.arange(len(blocks) * _AXES, len(of))]
            ),
            end=counts,
            samples=layout.mark_counts(counts),
            value=np.concatenate([one.marks for one in known]),
            position=layout.mark_positions(counts),
        )

    def _of_blocks(self, blocks: Blocks, layout: Layout) -> Iterable["_Marked"]:
        """Yield the runs of each axis."""
        samples = layout.mark_counts(blocks.count)
        starts = np.repeat(_AXES * (np.cumsum(samples) - samples), samples) + spread(samples)
        for axis in range(_AXES):
            marks = blocks.marks[starts + axis * np.repeat(samples, samples)]
            yield _Marked(axis * self.groups + blocks.group, blocks.count, marks)

    def _of_readings(self, layout: Layout) -> Iterable["_Marked"]:
        of = self._sort_readings()
        for one, values in zip(of, self.local, strict=True):
            counts = np.array([len(values)])
            yield _Marked(np.array([one]), counts, values[layout.mark_positions(counts)])

    def _of_pieces(self) -> Iterable["_Marked"]:
        for group, count, marks in self._marked:
            of = np.arange(_AXES) * self.groups + group
            yield _Marked(of, np.full(_AXES, count), np.concatenate(marks))

    def _sort_readings(self) -> list[int]:
        """Sort the readings of each list into `local`, and add them up; return the list of each."""
        of = []
        for axis in range(_AXES):
            for group, parts in enumerate(self._read[axis]):
                if parts:
                    values = np.sort(np.concatenate(parts) + 0.0)  # zeros lose their sign
                    self.local.append(values)
                    of.append(axis * self.groups + group)
                    self._add_sums(axis, group, values)
        return of

    def _add_sums(self, axis: int, group: int, values: Floats) -> None:
        self._widen(axis, group, float(values[0]), float(values[-1]))
        self.totals[axis][group] = exact.add(self.totals[axis][group], exact.total(values))
        if self.squares is not None:
            self.squares[axis][group] = exact.add(self.squares[axis][group], exact.total_of_squares(values))
