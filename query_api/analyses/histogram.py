"""The histogram of a device's readings."""

from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIType
from litestar.params import QueryParameter
from msgspec import UNSET, UnsetType

from query_api.access.rules import Permission
from query_api.calendar.period import Period, PeriodEnd, PeriodStart
from query_api.errors import Fault, displayed
from query_api.ids import DeviceIdField, require_possible
from query_api.statistics.blocks.layout import AXES
from query_api.statistics.histogram import Bins, read_histogram
from query_api.web.answers import problems
from query_api.web.answers.problems import documented, invalid
from query_api.web.answers.sources import HEADER, Analysed
from query_api.web.dependencies import DeviceId, Slow
from query_api.web.disconnect import cancelled_when_gone
from query_api.web.requests.bodies import JsonRequest
from query_api.web.resource import Resource
from shared.readings.rules import AXIS_LIMIT, AXIS_RULE

MAX_BINS = 1000
_AXIS = QueryParameter(
    description="x, y or z: the bins of this axis. Without it: those of all axes.",
    schema_extra={"type": OpenAPIType.STRING, "one_of": None, "enum": list(AXES)},
)
_MIN, _MAX = (
    QueryParameter(
        ge=-AXIS_LIMIT,
        le=AXIS_LIMIT,
        description=f"The {which} edge, {AXIS_RULE}. Give both min and max, or neither. "
        f"Without them: the {bound} of the axis in the period.",
    )
    for which, bound in (("first", "minimum"), ("last", "maximum"))
)


_WantedBins = Annotated[
    Bins | UnsetType,
    msgspec.Meta(description="The bins of the axis. Present if the request is for this axis or for all."),
]


class AxisHistograms(msgspec.Struct, frozen=True, kw_only=True):
    """The histograms of the requested axes."""

    device_id: DeviceIdField
    start: PeriodStart
    end: PeriodEnd
    count: Annotated[int, msgspec.Meta(description="The number of readings.", examples=[42])]
    x: _WantedBins = UNSET
    y: _WantedBins = UNSET
    z: _WantedBins = UNSET


@get(
    "/{device_id:str}/histogram",
    permission=Permission.READ,
    summary="Count a device's readings by value",
    response_description="The bins.",
    response_headers=[HEADER],
    responses=documented(problems.REVERSED_PERIOD, problems.NOT_FOUND, problems.INVALID_VALUE, problems.TOOK_TOO_LONG),
)
async def show_histogram(
    request: JsonRequest,
    device_id: DeviceId,
    period: NamedDependency[Period],
    slow_reads: Slow,
    analysed: Analysed,
    bins: Annotated[int, QueryParameter(ge=1, le=MAX_BINS, description="The number of bins.")] = 20,
    axis: Annotated[str | None, _AXIS] = None,  # as a Literal or None it would take "null", too
    min: Annotated[float | None, _MIN] = None,  # noqa: A002  # the name of the parameter
    max: Annotated[float | None, _MAX] = None,  # noqa: A002
) -> Response[AxisHistograms]:
    """Return exact counts in bins of equal width, from the minimum to the maximum of each axis, or from `min` to `max`.

    Edge n of N bins is min + n (max - min) / N, rounded once. An axis whose values are all equal has one bin. Without
    readings there are no bins, unless `min` and `max` are given.
    """
    if axis is not None and axis not in AXES:
        raise invalid(Fault("axis", f"expected x, y or z, got {displayed(axis)}"))
    bounds = _bounds(min, max)
    require_possible([device_id])
    axes = AXES if axis is None else (axis,)
    async with slow_reads.connection(request) as connection, cancelled_when_gone(request):
        found = await read_histogram(connection, device_id, period.start, period.end, axes, bins, bounds)
    histograms = AxisHistograms(
        device_id=device_id, start=period.start, end=period.end, count=found.count, **found.axes
    )
    return Response(histograms, headers=analysed.counted(found.source))


def _bounds(least: float | None, greatest: float | None) -> tuple[float, float] | None:
    """Raises Refused."""
    if least is None and greatest is None:
        return None
    if least is None or greatest is None:
        missing, given = ("min", "max") if least is None else ("max", "min")
        raise invalid(Fault(missing, f"is missing: expected both min and max, or neither; got only {given}"))
    if least >= greatest:
        raise invalid(Fault("min", f"expected less than max, {greatest!r}; got {least!r}"))
    return least + 0.0, greatest + 0.0


router = Resource("/stats", route_handlers=[show_histogram], tags=["analysis"])
