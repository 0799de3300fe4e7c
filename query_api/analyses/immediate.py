"""Immediate analyses of one device, or of several."""

from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIType
from litestar.params import QueryParameter

from query_api.access.rules import Permission
from query_api.calendar.period import Period
from query_api.errors import Fault, displayed
from query_api.ids import DeviceIdField, require_possible
from query_api.statistics.analysis import Analysis, analyse, analyse_each
from query_api.statistics.figures import FigureNames, Figures
from query_api.statistics.source import Source
from query_api.web.answers import problems
from query_api.web.answers.problems import documented, invalid
from query_api.web.answers.sources import HEADER, Analysed
from query_api.web.dependencies import DeviceId, Slow
from query_api.web.disconnect import cancelled_when_gone
from query_api.web.requests.bodies import JsonRequest
from query_api.web.requests.device_ids import SeveralOperation, parse_ids, several
from query_api.web.resource import Resource

MAX_DEVICES = 1_000
"""In one request."""
_PROBLEMS = documented(
    problems.REVERSED_PERIOD, problems.NOT_FOUND, problems.INVALID_VALUE, problems.TOOK_TOO_LONG
)  # fmt: skip

Wanted = NamedDependency[FigureNames]


class DeviceAnalysis(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one device."""

    device_id: DeviceIdField
    x: Figures
    y: Figures
    z: Figures


@get(
    "/{device_id:str}",
    permission=Permission.READ,
    summary="Analyse a device's readings immediately",
    response_description="The figures.",
    response_headers=[HEADER],
    responses=_PROBLEMS,
)
async def analyse_now(
    request: JsonRequest,
    device_id: DeviceId,
    period: NamedDependency[Period],
    wanted: Wanted,
    slow_reads: Slow,
    analysed: Analysed,
) -> Response[Analysis]:
    """Return min, max, sum, count, median and the requested `figures` of each axis, over the period or all time.

    Without readings the count and the sum are 0, and the others are null. The median of an even count is the mean of
    the two middle values.
    """
    require_possible([device_id])
    source = Source()
    async with slow_reads.connection(request) as connection, cancelled_when_gone(request):
        found = await analyse(connection, device_id, period.start, period.end, wanted, source)
    return Response(found, headers=analysed.counted(source))


_GROUP_BY = QueryParameter(
    description="device: the figures of each device. Without it: the figures of all devices together.",
    schema_extra={"type": OpenAPIType.STRING, "enum": ["device"]},
)


@get(
    "/",
    permission=Permission.READ,
    summary="Analyse several devices' readings immediately",
    response_description="The figures.",
    response_headers=[HEADER],
    operation_class=SeveralOperation,
    responses=_PROBLEMS,
)
async def analyse_several(
    request: JsonRequest,
    period: NamedDependency[Period],
    wanted: Wanted,
    slow_reads: Slow,
    analysed: Analysed,
    device_id: Annotated[list[str] | None, several(MAX_DEVICES)] = None,
    group_by: Annotated[str | None, _GROUP_BY] = None,  # as a Literal or None it would take "null", too
) -> Response[Analysis | list[DeviceAnalysis]]:
    """Return the figures of all the devices together, or of each device in the order of the request.

    The median of several devices is the median of all their readings.
    """
    if group_by not in (None, "device"):
        raise invalid(Fault("group_by", f"expected device, got {displayed(group_by)}"))
    devices = parse_ids(device_id, MAX_DEVICES)
    require_possible(devices)
    source = Source()
    found: Analysis | list[DeviceAnalysis]
    async with slow_reads.connection(request) as connection, cancelled_when_gone(request):
        if group_by is None:
            found = await analyse(connection, devices, period.start, period.end, wanted, source)
        else:
            each = await analyse_each(connection, devices, period.start, period.end, wanted, source)
            found = [DeviceAnalysis(device_id=device, x=of.x, y=of.y, z=of.z) for device, of in each.items()]
    return Response(found, headers=analysed.counted(source))


router = Resource("/stats/analysis", route_handlers=[analyse_now, analyse_several], tags=["analysis"])
