"""What queued analyses have found: listed, shown, deleted."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import Response, delete, get
from litestar.params import PathParameter
from psycopg.rows import dict_row

from query_api.access.principal import actor_of
from query_api.access.rules import Access
from query_api.devices.handlers import MAX_ID, DeviceId, find
from query_api.queue.records import AnalysisResult
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Refused, documented
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from query_api.web.resource import Resource
from query_api.web.state import Database, Slow
from shared.access import audit
from shared.access.audit import Action
from shared.postgres.connections import Connection

ResultId = Annotated[int, PathParameter(description="The result's number.")]


class _ResultsBefore(msgspec.Struct, frozen=True, array_like=True, tag="results"):
    device_id: int
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


@get(
    "/result/{device_id:str}",
    access=Access.READ,
    summary="List a device's analysis results",
    response_headers=paging.HEADERS,
    responses=documented(problems.BAD_CURSOR, problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def list_results(
    request: JsonRequest,
    device_id: DeviceId,
    slow_reads: Slow,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[AnalysisResult]]:
    """Those of its queued analyses, the newest first."""
    before = paging.decode(cursor, _ResultsBefore) or _ResultsBefore(device_id, MAX_ID)
    if before.device_id != device_id:
        raise paging.foreign()
    async with slow_reads.connection(request) as connection:
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


@get(
    "/result/{device_id:str}/{result_id:str}",
    access=Access.READ,
    summary="Show an analysis result",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def show_result(device_id: DeviceId, result_id: ResultId, database: Database) -> AnalysisResult:
    """What one of the device's queued analyses found."""
    async with database.connection() as connection:
        found = await find_result(connection, device_id, result_id)
    if found is None:
        raise _no_such_result(device_id, result_id)
    return found


_FIND = """
    SELECT id, request_id, device_id, "start", "end", x, y, z, created_at FROM analysis_results
    WHERE id = %(id)s AND device_id = %(device_id)s AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
"""


async def find_result(connection: Connection, device_id: int, result_id: int) -> AnalysisResult | None:
    """The device's result of this number, None where it has none."""
    if not (0 < device_id <= MAX_ID and 0 < result_id <= MAX_ID):
        return None
    async with connection.cursor(row_factory=dict_row) as cursor:
        row = await (await cursor.execute(_FIND, {"id": result_id, "device_id": device_id})).fetchone()
        return None if row is None else msgspec.convert(row, AnalysisResult)


@delete(
    "/result/{device_id:str}/{result_id:str}",
    access=Access.ADMINISTER,
    summary="Delete an analysis result",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def delete_result(request: AnyRequest, device_id: DeviceId, result_id: ResultId, database: Database) -> None:
    """Its request stays, without the result."""
    async with database.connection() as connection, connection.transaction():
        if not await remove_result(connection, device_id, result_id):
            raise _no_such_result(device_id, result_id)
        subject = f"result {result_id} of device {device_id}"
        await audit.record(connection, actor_of(request), Action.RESULT_DELETED, subject)


_REMOVE = """
    DELETE FROM analysis_results
    WHERE id = %(id)s AND device_id = %(device_id)s AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
"""


async def remove_result(connection: Connection, device_id: int, result_id: int) -> bool:
    """Deletes the device's result of this number; False where it has none."""
    if not (0 < device_id <= MAX_ID and 0 < result_id <= MAX_ID):
        return False
    cursor = await connection.execute(_REMOVE, {"id": result_id, "device_id": device_id})
    return cursor.rowcount == 1


def _no_such_result(device_id: int, result_id: int) -> Refused:
    return Refused(
        problems.NOT_FOUND,
        f"device {device_id} has no analysis result {result_id}: GET /stats/analysis/result/{device_id} lists them",
    )


router = Resource("/stats/analysis", route_handlers=[list_results, show_result, delete_result], tags=["analysis"])
