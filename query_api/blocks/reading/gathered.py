"""What is known of each group while blocks and readings are gathered, and the runs that follow from them."""

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import numpy as np

from query_api.blocks import exact
from query_api.blocks.layout import AXES, Floats, Ints, Layout, Times, spread
from query_api.blocks.runs import Runs

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


class Gathered:
    """Sums and ranges of groups, their blocks, and readings that were read one by one.

    The list of an axis and a group is numbered axis * groups + group. The id of a run is block * 3 + axis or, behind
    those, the place in `local`.
    """

    def __init__(self, groups: int, *, with_squares: bool) -> None:
        self.groups = groups
        self.count = np.zeros(groups, np.int64)
        self.from_blocks = 0
        self.least = np.full((_AXES, groups), np.inf)
        self.greatest = np.full((_AXES, groups), -np.inf)
        self.totals = [[exact.ZERO] * groups for _ in AXES]
        self.squares = [[exact.ZERO] * groups for _ in AXES] if with_squares else None
        self.local: list[Floats] = []
        self._blocks: list[Blocks] = []
        self._read: list[list[list[Floats]]] = [[[] for _ in range(groups)] for _ in AXES]

    def add_blocks(
        self, blocks: Blocks, ranges: Sequence[float], totals: Sequence[Decimal], squares: Sequence[Decimal] | None
    ) -> None:
        """Add blocks of one group, with their ranges and sums."""
        group = int(blocks.group[0])
        self._blocks.append(blocks)
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
        for axis, values in enumerate(axes):
            self._read[axis][group].append(values)

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
        """Return the runs of all lists: those of the blocks, and one of the readings of each list, sorted."""
        of = [axis * self.groups + blocks.group for axis in range(_AXES)]
        ids = [np.arange(len(blocks)) * _AXES + axis for axis in range(_AXES)]
        samples = layout.mark_counts(blocks.count)
        positions = layout.mark_positions(blocks.count)
        starts = np.repeat(_AXES * (np.cumsum(samples) - samples), samples) + spread(samples)
        marks = [blocks.marks[starts + axis * np.repeat(samples, samples)] for axis in range(_AXES)]
        local_of = self._sort_readings()
        local_end = np.array([len(values) for values in self.local], np.int64)
        local_positions = layout.mark_positions(local_end)
        local_samples = layout.mark_counts(local_end)
        local_marks = [
            values[places]
            for values, places in zip(
                self.local, np.split(local_positions, np.cumsum(local_samples)[:-1]), strict=False
            )
        ]
        return Runs.grouped(
            of=np.concatenate((*of, local_of)),
            id=np.concatenate((*ids, len(blocks) * _AXES + np.arange(len(self.local)))),
            end=np.concatenate((*[blocks.count] * _AXES, local_end)),
            samples=np.concatenate((*[samples] * _AXES, local_samples)),
            value=np.concatenate((*marks, *local_marks)),
            position=np.concatenate((*[positions] * _AXES, local_positions)),
        )

    def _sort_readings(self) -> Ints:
        """Sort the readings of each list into `local`, and add them up; return the list of each."""
        of = []
        for axis in range(_AXES):
            for group, parts in enumerate(self._read[axis]):
                if parts:
                    values = np.sort(np.concatenate(parts) + 0.0)  # zeros lose their sign
                    self.local.append(values)
                    of.append(axis * self.groups + group)
                    self._add_sums(axis, group, values)
        return np.array(of, np.int64)

    def _add_sums(self, axis: int, group: int, values: Floats) -> None:
        self._widen(axis, group, float(values[0]), float(values[-1]))
        self.totals[axis][group] = exact.add(self.totals[axis][group], exact.total(values))
        if self.squares is not None:
            self.squares[axis][group] = exact.add(self.squares[axis][group], exact.total_of_squares(values))
