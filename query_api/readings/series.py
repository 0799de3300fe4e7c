"""A device's readings for a plot: a few points that preserve the shape of the curve."""

import asyncio
from datetime import datetime
from functools import partial
from typing import Annotated

import msgspec
import numpy as np
from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from query_api.access.rules import Permission
from query_api.calendar.period import Period, PeriodEnd, PeriodStart
from query_api.ids import DeviceIdField, require_device
from query_api.readings.downsampling import MAX_POINTS, MIN_POINTS, Downsampler, Times, span_of
from query_api.readings.listing import bounds
from query_api.statistics.blocks.computing import computed
from query_api.statistics.blocks.layout import AXES, STANDARD, Layout
from query_api.statistics.blocks.reading.curves.outline import LIMITS, Limits, Outline, read_outline, read_sealed
from query_api.statistics.blocks.reading.curves.strides import Spans
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.web.answers import problems
from query_api.web.answers.problems import documented
from query_api.web.dependencies import DeviceId, Slow
from query_api.web.disconnect import cancelled_when_gone
from query_api.web.requests.bodies import JsonRequest
from query_api.web.resource import Resource
from shared.postgres.connections import Connection
from shared.readings.binary_copy import FLOAT8, TIMESTAMPTZ, BinaryRows, Rows, microseconds, next_block
from shared.readings.model import to_datetime, to_microseconds

COLUMNS = {"timestamp": TIMESTAMPTZ, "x": FLOAT8, "y": FLOAT8, "z": FLOAT8}
BATCH_ROWS = 65_536
"""Readings that are processed together. Memory holds no others besides the points."""


_Moment = Annotated[str, msgspec.Meta(extra_json_schema={"extra": {"format": "date-time"}})]
"""RFC 3339 with six digits. numpy formats a whole line in one call."""


class Line(msgspec.Struct, frozen=True):
    """The points of an axis, in two columns of equal length."""

    timestamp: Annotated[list[_Moment], msgspec.Meta(description="The time of each measurement, in UTC, in order.")]
    value: Annotated[list[float], msgspec.Meta(description="The value of each measurement.")]


class Series(msgspec.Struct, frozen=True):
    """The lines of the three axes."""

    device_id: DeviceIdField
    start: PeriodStart
    end: PeriodEnd
    count: Annotated[
        int, msgspec.Meta(description="The number of readings that the lines represent.", examples=[86_400])
    ]
    x: Line
    y: Line
    z: Line


@get(
    "/{device_id:str}/series",
    permission=Permission.READ,
    summary="Read a device's readings for a plot",
    response_description="The points of each axis.",
    responses=documented(problems.REVERSED_PERIOD, problems.NOT_FOUND, problems.INVALID_VALUE, problems.TOOK_TOO_LONG),
)
async def read_series(
    request: JsonRequest,
    device_id: DeviceId,
    period: NamedDependency[Period],
    slow_reads: Slow,
    points: Annotated[
        int, QueryParameter(ge=MIN_POINTS, le=MAX_POINTS, description="The maximum number of points of each axis.")
    ] = 1000,
) -> Series:
    """Return at most `points` points of each axis: all readings, or a selection by MinMaxLTTB if there are more.

    Each point is a reading. The first and the last reading, and the minimum and the maximum, are always included.
    """
    async with slow_reads.connection(request) as connection, cancelled_when_gone(request), snapshot(connection):
        await require_device(connection, device_id)
        within = await bounds(connection, device_id, period)
        if within is None:
            return Series(device_id, period.start, period.end, 0, Line([], []), Line([], []), Line([], []))
        return await downsample(connection, device_id, period, within, points)


async def downsample(
    connection: Connection,
    device_id: int,
    period: Period,
    within: tuple[datetime, datetime],
    points: int,
    layout: Layout = STANDARD,
    limits: Limits = LIMITS,
) -> Series:
    """Return the series of the readings within these bounds: their first and last time."""
    first, last = map(to_microseconds, within)
    lines = [Downsampler(first, last, points) for _ in AXES]
    spans = Spans(first, last, span_of(first, last, points))
    count = 0
    async for outline in read_outline(connection, device_id, spans, points, layout=layout, limits=limits):
        count += outline.count
        await computed(sum(len(times) for times, _ in outline.axes), partial(_add_outline, lines, outline))
    sealed = await read_sealed(connection, device_id)
    if sealed <= last:
        count += await _add_rows(connection, device_id, to_datetime(max(first, sealed)), within[1], lines)
    return Series(device_id, period.start, period.end, count, *await asyncio.to_thread(_drawn, lines))


def _add_outline(lines: list[Downsampler], outline: Outline) -> None:
    for line, (times, values) in zip(lines, outline.axes, strict=True):
        line.add(times, values, outline.count)


COPY = """
    COPY (
        SELECT recorded_at, x, y, z FROM readings
        WHERE device_id = %(device_id)s AND recorded_at >= %(first)s AND recorded_at <= %(last)s
        ORDER BY recorded_at, x, y, z
    ) TO STDOUT (FORMAT binary)
"""


async def _add_rows(
    connection: Connection, device_id: int, first: datetime, last: datetime, lines: list[Downsampler]
) -> int:
    """Add the rows of this period, and return their number."""
    count = 0
    parameters = {"device_id": device_id, "first": first, "last": last}
    async with connection.cursor() as cursor, cursor.copy(COPY, parameters) as copy:
        rows = BinaryRows(COLUMNS)
        more = True
        while more:
            block, more = await next_block(copy, BATCH_ROWS * rows.row_bytes)
            count += await asyncio.to_thread(_add, lines, rows.cut(block))
    return count


def _add(lines: list[Downsampler], rows: Rows) -> int:
    times = microseconds(rows["timestamp"])
    for axis, line in zip(AXES, lines, strict=True):
        line.add(times, rows[axis].astype(np.float64))
    return len(rows)


def _drawn(lines: list[Downsampler]) -> list[Line]:
    results = [line.result() for line in lines]
    return [Line(_written(times), values.tolist()) for times, values in results]


def _written(times: Times) -> list[str]:
    written: list[str] = np.datetime_as_string(times.astype("datetime64[us]"), timezone="UTC").tolist()
    return written


router = Resource("/stats", route_handlers=[read_series], tags=["readings"])
