"""A device's readings for a plot: a few points that preserve the shape of the curve."""

import asyncio
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
import numpy as np
from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from query_api.access.rules import Permission
from query_api.calendar.period import Period, PeriodEnd, PeriodStart
from query_api.ids import DeviceIdField, require_device
from query_api.readings.listing import bounds
from query_api.readings.plots.curve import Curve, draw
from query_api.readings.plots.downsampling import MAX_POINTS, MIN_POINTS, Times
from query_api.readings.plots.gaps import FACTOR, Gap
from query_api.readings.plots.shared_times import share
from query_api.statistics.blocks.layout import STANDARD, Layout
from query_api.statistics.blocks.reading.curves.outline import LIMITS, Limits
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.web.answers import problems
from query_api.web.answers.problems import documented
from query_api.web.dependencies import DeviceId, Slow
from query_api.web.disconnect import cancelled_when_gone
from query_api.web.requests.bodies import JsonRequest
from query_api.web.resource import Resource
from shared.postgres.connections import Connection
from shared.readings.model import SECOND

Moment = Annotated[str, msgspec.Meta(extra_json_schema={"extra": {"format": "date-time"}})]
"""RFC 3339 with six digits. numpy formats a whole line in one call."""
_Count = Annotated[int, msgspec.Meta(description="The number of readings that the lines represent.", examples=[86_400])]
_Value = Annotated[list[float | None], msgspec.Meta(description="Null where this axis has no point.")]


class Line(msgspec.Struct, frozen=True):
    """The points of an axis, in two columns of equal length."""

    timestamp: Annotated[list[Moment], msgspec.Meta(description="The time of each measurement, in UTC, in order.")]
    value: Annotated[list[float], msgspec.Meta(description="The value of each measurement.")]


class Series(msgspec.Struct, frozen=True):
    """The lines of the three axes."""

    device_id: DeviceIdField
    start: PeriodStart
    end: PeriodEnd
    count: _Count
    x: Line
    y: Line
    z: Line


class SeriesGap(msgspec.Struct, frozen=True):
    """A part of the period without readings."""

    start: Annotated[Moment, msgspec.Meta(description="The time of the last reading before the gap.")]
    end: Annotated[Moment, msgspec.Meta(description="The time of the first reading after the gap.")]


class SharedSeries(msgspec.Struct, frozen=True):
    """The lines of the three axes in columns of equal length, with one column of times, and the gaps."""

    device_id: DeviceIdField
    start: PeriodStart
    end: PeriodEnd
    count: _Count
    timestamp: Annotated[list[Moment], msgspec.Meta(description="The times of the points of all axes, in order.")]
    x: _Value
    y: _Value
    z: _Value
    gaps: Annotated[list[SeriesGap], msgspec.Meta(description="The gaps between readings, in order.")]
    gaps_above: Annotated[
        float | None,
        msgspec.Meta(
            description="The seconds between neighbouring readings that each gap exceeds, and other neighbours do not: "
            f"{FACTOR} times the usual distance, and no less than half of the period of the readings divided by "
            "`points`. Null without readings."
        ),
    ]


class Columns(StrEnum):
    """The columns of a series."""

    SEPARATE = "separate"
    SHARED = "shared"


Points = Annotated[
    int, QueryParameter(ge=MIN_POINTS, le=MAX_POINTS, description="The maximum number of points of each axis.")
]


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
    points: Points = 1000,
    columns: Annotated[
        Columns,
        QueryParameter(
            description="separate: each axis has its own times. shared: the axes share one column of times, and the "
            "response lists the gaps."
        ),
    ] = Columns.SEPARATE,
) -> Series | SharedSeries:
    """Return at most `points` points of each axis: all readings, or a selection by MinMaxLTTB if there are more.

    Each point is a reading. The first and the last reading, and the minimum and the maximum, are always included.

    With `columns=shared`, a value is null where the axis has no point at that time. The gaps are those between all
    readings, not between the points. The usual distance of readings is the median of samples: at 64 equally spaced
    times of the period, the distances of the next nine readings.
    """
    async with slow_reads.connection(request) as connection, cancelled_when_gone(request), snapshot(connection):
        await require_device(connection, device_id)
        within = await bounds(connection, device_id, period)
        if columns is Columns.SHARED:
            curve = within and await draw(connection, device_id, within, points, gaps=True)
            return await asyncio.to_thread(shared_series, device_id, period, curve)
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
    curve = await draw(connection, device_id, within, points, layout=layout, limits=limits)
    return Series(device_id, period.start, period.end, curve.count, *await asyncio.to_thread(_lines, curve))


def _lines(curve: Curve) -> list[Line]:
    return [Line(written(times), values.tolist()) for times, values in curve.lines]


def written(times: Times) -> list[str]:
    """Return the times in RFC 3339, in UTC."""
    texts: list[str] = np.datetime_as_string(times.astype("datetime64[us]"), timezone="UTC").tolist()
    return texts


def shared_series(device_id: int, period: Period, curve: Curve | None) -> SharedSeries:
    """Return the curve in columns with one column of times. `curve`: None without readings."""
    if curve is None:
        return SharedSeries(device_id, period.start, period.end, 0, [], [], [], [], [], None)
    assert curve.gaps_above is not None, "the curve was drawn with gaps"
    times, (x, y, z) = share(curve.lines)
    return SharedSeries(
        device_id,
        period.start,
        period.end,
        curve.count,
        written(times),
        x,
        y,
        z,
        [_gap(gap) for gap in curve.gaps],
        curve.gaps_above / SECOND,
    )


def _gap(gap: Gap) -> SeriesGap:
    start, end = written(np.array([gap.start, gap.end], np.int64))
    return SeriesGap(start, end)


router = Resource("/stats", route_handlers=[read_series], tags=["readings"])
