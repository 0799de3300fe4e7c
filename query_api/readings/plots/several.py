"""One axis of several devices' readings for small plots, such as the sparklines of a list."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from query_api.access.rules import Permission
from query_api.calendar.period import Period
from query_api.ids import DeviceIdField, require_devices
from query_api.readings.listing import bounds
from query_api.readings.plots.curve import draw
from query_api.readings.plots.downsampling import MIN_POINTS
from query_api.readings.plots.series import Line, written
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.web.answers import problems
from query_api.web.answers.problems import documented
from query_api.web.dependencies import Slow
from query_api.web.disconnect import cancelled_when_gone
from query_api.web.requests.bodies import JsonRequest
from query_api.web.requests.device_ids import SeveralOperation, parse_ids, several
from query_api.web.resource import Resource
from shared.postgres.connections import Connection

MAX_DEVICES = 100
MAX_POINTS = 1_000
"""Of each device, as all of them are in one response."""


class Axis(StrEnum):
    """An axis of readings."""

    X = "x"
    Y = "y"
    Z = "z"


class DeviceLine(Line, frozen=True, kw_only=True):
    """The points of one axis of a device, in two columns of equal length."""

    device_id: DeviceIdField
    count: Annotated[
        int, msgspec.Meta(description="The number of readings that the line represents.", examples=[86_400])
    ]


@get(
    "/series",
    permission=Permission.READ,
    summary="Read several devices' readings for small plots",
    response_description="The points of each device.",
    operation_class=SeveralOperation,
    responses=documented(problems.REVERSED_PERIOD, problems.NOT_FOUND, problems.INVALID_VALUE, problems.TOOK_TOO_LONG),
)
async def read_several_series(
    request: JsonRequest,
    period: NamedDependency[Period],
    slow_reads: Slow,
    device_id: Annotated[list[str] | None, several(MAX_DEVICES)] = None,
    points: Annotated[
        int, QueryParameter(ge=MIN_POINTS, le=MAX_POINTS, description="The maximum number of points of each device.")
    ] = 60,
    axis: Annotated[Axis, QueryParameter(description="The axis.")] = Axis.X,
) -> list[DeviceLine]:
    """Return at most `points` points of one axis of each device, in the order of the request.

    They are the points of this axis in GET /stats/{device_id}/series. A device without readings has none.
    """
    devices = parse_ids(device_id, MAX_DEVICES)
    async with slow_reads.connection(request) as connection, cancelled_when_gone(request), snapshot(connection):
        await require_devices(connection, devices)
        return await select(connection, devices, period, points, axis)


async def select(
    connection: Connection, devices: Sequence[int], period: Period, points: int, axis: Axis
) -> list[DeviceLine]:
    """Return the line of each device, in the caller's snapshot."""
    return [await _line(connection, device_id, period, points, axis) for device_id in devices]


async def _line(connection: Connection, device_id: int, period: Period, points: int, axis: Axis) -> DeviceLine:
    within = await bounds(connection, device_id, period)
    if within is None:
        return DeviceLine(device_id=device_id, count=0, timestamp=[], value=[])
    curve = await draw(connection, device_id, within, points, axes=[axis])
    ((times, values),) = curve.lines
    return DeviceLine(device_id=device_id, count=curve.count, timestamp=written(times), value=values.tolist())


router = Resource("/stats", route_handlers=[read_several_series], tags=["readings"])
