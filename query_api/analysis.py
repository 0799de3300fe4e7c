"""Analyses, at once."""

from litestar import get
from litestar.di import NamedDependency

from query_api import problems
from query_api.devices import DeviceId, find
from query_api.problems import documented
from query_api.resource import Resource
from query_api.state import Database
from query_api.times import Period
from shared.analysis import Analysis, analyse


@get(
    "/{device_id:str}",
    summary="Analyse a device's readings, at once",
    responses=documented(problems.REVERSED_PERIOD, problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def analyse_now(device_id: DeviceId, period: NamedDependency[Period], database: Database) -> Analysis:
    """Of each axis over the period, or all time: min, max, sum, count, median.

    No readings: count 0, sum 0, the others null. The median of an even count is the mean of the two middle
    values.
    """
    async with database.connection() as connection:
        await find(connection, device_id)
        return await analyse(connection, device_id, period.start, period.end)


router = Resource("/stats/analysis", route_handlers=[analyse_now], tags=["analysis"])
