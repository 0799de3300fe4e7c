"""The curve of a device's readings: a few points of each axis, from blocks and from rows, and its gaps."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial

import msgspec
import numpy as np

from query_api.readings.plots.downsampling import Downsampler, Times, Values, span_of
from query_api.readings.plots.gaps import FACTOR, Gap, Gaps, usual_distance
from query_api.readings.row_stream import PARTS, Copy, PartRows, Stretch, read_blocks
from query_api.statistics.blocks.computing import computed
from query_api.statistics.blocks.layout import AXES, STANDARD, Layout
from query_api.statistics.blocks.reading.curves.outline import LIMITS, Limits, Outline, read_outline, read_sealed
from query_api.statistics.blocks.reading.curves.strides import Spans
from shared.postgres.connections import Connection
from shared.readings.binary_copy import FLOAT8, TIMESTAMPTZ, BinaryRows, Rows, microseconds
from shared.readings.model import Microseconds, to_datetime, to_microseconds

COLUMNS = {"timestamp": TIMESTAMPTZ, "x": FLOAT8, "y": FLOAT8, "z": FLOAT8}
BATCH_ROWS = 65_536
"""Readings that are processed together. Memory holds no others besides the points."""


class Curve(msgspec.Struct, frozen=True):
    """Points of a device's readings. `count`: of the readings. `lines`: the points of each axis that was drawn.

    `gaps`: in the order of time. `gaps_above`: the distance that each of them exceeds.
    """

    count: int
    lines: Sequence[tuple[Times, Values]]
    gaps: Sequence[Gap] = ()
    gaps_above: Microseconds | None = None


class _Drawing(msgspec.Struct, frozen=True):
    """A curve that is being drawn. `lines`: by the axes that are wanted."""

    lines: dict[str, Downsampler]
    gaps: Gaps | None

    def add_outline(self, outline: Outline) -> None:
        """Add the outline of sealed readings."""
        for axis, (times, values) in zip(AXES, outline.axes, strict=True):
            if axis in self.lines:
                self.lines[axis].add(times, values, outline.count)
        if self.gaps:
            self.gaps.add(np.concatenate((outline.axes[0][0], outline.ends)))

    def add_rows(self, rows: Rows) -> int:
        """Add rows, and return their number."""
        times = microseconds(rows["timestamp"])
        for axis, line in self.lines.items():
            line.add(times, rows[axis].astype(np.float64))
        if self.gaps:
            self.gaps.add(times)
        return len(rows)

    def finished(self, count: int) -> Curve:
        """Return the curve of this number of readings."""
        lines = [line.result() for line in self.lines.values()]
        return Curve(count, lines, self.gaps.found, self.gaps.longer_than) if self.gaps else Curve(count, lines)


async def draw(
    connection: Connection,
    device_id: int,
    within: tuple[datetime, datetime],
    points: int,
    *,
    axes: Sequence[str] = AXES,
    gaps: bool = False,
    layout: Layout = STANDARD,
    limits: Limits = LIMITS,
    parts: PartRows = PARTS,
) -> Curve:
    """Draw the readings within these bounds, their first and last time, in the caller's snapshot.

    `parts`: the numbers of rows that are read together on a cluster.
    """
    first, last = map(to_microseconds, within)
    spans = Spans(first, last, span_of(first, last, points))
    search = None
    if gaps:
        search = Gaps(max(FACTOR * await usual_distance(connection, device_id, *within), spans.length))
    drawing = _Drawing({axis: Downsampler(first, last, points) for axis in axes}, search)
    count = 0
    async with aclosing(read_outline(connection, device_id, spans, points, layout=layout, limits=limits)) as outlines:
        async for outline in outlines:
            count += outline.count
            await computed(sum(len(times) for times, _ in outline.axes), partial(drawing.add_outline, outline))
    sealed = await read_sealed(connection, device_id)
    if sealed <= last:
        stretch = Stretch(device_id, to_datetime(max(first, sealed)), within[1])
        count += await _add_rows(connection, stretch, drawing, parts)
    return await asyncio.to_thread(drawing.finished, count)


_COPY = Copy("recorded_at, x, y, z", options=" (FORMAT binary)")


async def _add_rows(connection: Connection, stretch: Stretch, drawing: _Drawing, parts: PartRows) -> int:
    """Add the rows of the stretch, and return their number."""
    rows, count = BinaryRows(COLUMNS), 0
    size = BATCH_ROWS * rows.row_bytes
    async with aclosing(read_blocks(connection, _COPY, stretch, size, parts)) as blocks:
        async for block, _ in blocks:
            count += await asyncio.to_thread(drawing.add_rows, rows.cut(block))
    return count
