"""What queued analyses have found."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, get
from psycopg.rows import dict_row

from query_api import paging, problems
from query_api.bodies import JsonRequest
from query_api.devices import MAX_ID, DeviceId, find
from query_api.fields import DeviceNumber, Id, PeriodEnd, PeriodStart
from query_api.problems import documented
from query_api.resource import Resource
from query_api.state import Database
from shared.analysis import Figures
from shared.database import Connection


class AnalysisResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a queued analysis found."""

    id: Id
    request_id: Annotated[int, msgspec.Meta(description="The number of the request that asked for it.")]
    device_id: DeviceNumber
    start: PeriodStart
    end: PeriodEnd
    x: Figures
    y: Figures
    z: Figures
    created_at: Annotated[datetime, msgspec.Meta(description="When it was found.")]


class _ResultsBefore(msgspec.Struct, frozen=True, array_like=True, tag="results"):
    device_id: int
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


@get(
    "/result/{device_id:str}",
    summary="List a device's analysis results",
    response_headers=paging.HEADERS,
    responses=documented(problems.BAD_CURSOR, problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def list_results(
    request: JsonRequest,
    device_id: DeviceId,
    database: Database,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[AnalysisResult]]:
    """Those of its queued analyses, the newest first."""
    before = paging.decode(cursor, _ResultsBefore) or _ResultsBefore(device_id, MAX_ID)
    if before.device_id != device_id:
        raise paging.foreign()
    async with database.connection() as connection:
        await find(connection, device_id)
        found = await results(connection, device_id, before.id, limit + 1)
    shown = found[:limit]
    last = _ResultsBefore(device_id, shown[-1].id) if len(found) > limit else None
    return paging.page(request, shown, last)


_RESULTS = """
    SELECT id, request_id, device_id, "start", "end", x, y, z, created_at FROM analysis_results
    WHERE device_id = %(device_id)s AND id < %(before)s
    ORDER BY id DESC
    LIMIT %(limit)s
"""


async def results(connection: Connection, device_id: int, before: int, limit: int) -> list[AnalysisResult]:
    """The device's results with numbers below `before`, the newest first."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_RESULTS, {"device_id": device_id, "before": before, "limit": limit})
        return msgspec.convert(await cursor.fetchall(), list[AnalysisResult])


router = Resource("/stats/analysis", route_handlers=[list_results], tags=["analysis"])
