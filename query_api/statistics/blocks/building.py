"""What a block holds: its readings in columns, and the values of each axis sorted, with their exact sums.

Levels MINI and BASE are built of readings; each level above is merged from blocks of the level below. For curves, a
block of readings also has the extremes of its strides: the least and the greatest value of `layout.time_stride`
readings in the order of the columns (fewer in the last stride). Of equal values the first is the least, and the last is
the greatest.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from query_api.statistics.blocks import exact
from query_api.statistics.blocks.coding import Coded, Coding
from query_api.statistics.blocks.layout import AXES, Floats, Layout, Times
from shared.readings.model import Microseconds


class Columns(msgspec.Struct, frozen=True):
    """Readings of one device in columns of equal length: times in microseconds since 1970, and the axes.

    They are in the order of time. Readings of equal times are in the order of x, y and z.
    """

    times: Times
    x: Floats
    y: Floats
    z: Floats

    @classmethod
    def ordered(cls, times: Times, x: Floats, y: Floats, z: Floats) -> Self:
        """Return the readings in order."""
        if np.all(times[:-1] < times[1:]):
            return cls(times, x, y, z)
        order = np.lexsort((z, y, x, times))
        return cls(times[order], x[order], y[order], z[order])

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> Self:
        """Return the readings of all parts, in order."""
        return cls.ordered(
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.x for part in parts]),
            np.concatenate([part.y for part in parts]),
            np.concatenate([part.z for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, part: slice) -> "Columns":
        return Columns(self.times[part], self.x[part], self.y[part], self.z[part])

    @property
    def first(self) -> Microseconds:
        """The time of the first reading."""
        return int(self.times[0])

    @property
    def last(self) -> Microseconds:
        """The time of the last reading."""
        return int(self.times[-1])

    @property
    def axes(self) -> tuple[Floats, Floats, Floats]:
        """The columns x, y and z."""
        return self.x, self.y, self.z


class Axis(msgspec.Struct, frozen=True):
    """The values of one axis of a block, sorted; zeros have no sign. With the exact sums of values and of squares."""

    values: Floats
    total: Decimal
    squares: Decimal

    @classmethod
    def of(cls, values: Floats) -> Self:
        """Return the axis of these values, in any order."""
        in_order = np.sort(values + 0.0)  # -0.0 + 0.0 is 0.0
        return cls(in_order, exact.total(in_order), exact.total_of_squares(in_order))

    def marks(self, layout: Layout) -> Floats:
        """Return the values at the positions of the marks."""
        return self.values[layout.mark_positions(np.array([len(self.values)]))]

    def guides(self, layout: Layout) -> Floats:
        """Return every `layout.guide`-th value."""
        return self.values[:: layout.guide]


class Key(msgspec.Struct, frozen=True):
    """Identifies a block. `first`: the time of its first reading."""

    device_id: int
    level: int
    first: Microseconds


class AxisSummary(msgspec.Struct, frozen=True):
    """What the row of a block says of an axis. `marks`: as little-endian float64."""

    least: float
    greatest: float
    total: Decimal
    squares: Decimal
    marks: bytes

    @classmethod
    def of(cls, axis: Axis, layout: Layout) -> Self:
        """Return the summary of the axis."""
        values = axis.values
        marks = axis.marks(layout).tobytes()
        return cls(float(values[0]), float(values[-1]), axis.total, axis.squares, marks)


class Block(msgspec.Struct, frozen=True):
    """A block without its values: a row of the table blocks."""

    key: Key
    last: Microseconds
    count: int
    axes: Sequence[AxisSummary]
    times: bytes | None


EXTREMES = np.dtype(
    [
        ("least", "<f8"), ("least_time", "<i8"), ("greatest", "<f8"), ("greatest_time", "<i8"),
        ("least_place", "<u4"), ("greatest_place", "<u4"),
    ]
)  # fmt: skip
"""The extremes of one axis of a stride. The places are positions in the stride."""
VALUES = len(AXES) * EXTREMES.itemsize // 8
"""What the extremes of all axes of a stride take, in values of 8 bytes."""
EXTREMES_COLUMN = 1 + len(AXES)
"""The number of the extremes among the columns of a block."""


def extremes_of(columns: Columns, stride: int) -> NDArray[np.void]:
    """Return the extremes of all strides of the readings: shape (strides, axes)."""
    found = np.empty((-(-len(columns) // stride), len(AXES)), EXTREMES)
    first = np.arange(len(found)) * stride
    for axis, values in enumerate(columns.axes):
        least = _in_rows(values, stride, np.inf).argmin(axis=1)
        greatest = stride - 1 - _in_rows(values, stride, -np.inf)[:, ::-1].argmax(axis=1)
        own = found[:, axis]
        for name, place in (("least", least), ("greatest", greatest)):
            own[name], own[f"{name}_time"] = values[first + place], columns.times[first + place]
            own[f"{name}_place"] = place
    return found


def _in_rows(values: Floats, stride: int, filler: float) -> Floats:
    """Return the values in rows of `stride`, the last one filled up."""
    rows = np.full(-(-len(values) // stride) * stride, filler)
    rows[: len(values)] = values
    return rows.reshape(-1, stride)


def code_extremes(columns: Columns, layout: Layout) -> Coded:
    """Return the extremes as an array whose frames are strides, not coded."""
    extremes = np.ascontiguousarray(extremes_of(columns, layout.time_stride))
    return Coded(Coding(), VALUES * 8, extremes.data.cast("B"))
