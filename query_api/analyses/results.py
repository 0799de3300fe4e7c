"""Routes of the results of queued analyses: list, get, delete."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import Response, delete, get
from litestar.params import PathParameter

from query_api.access.rules import Permission
from query_api.ids import MAX_ID, require_device
from query_api.queue import results
from query_api.queue.records import AnalysisResult
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Refused, documented
from query_api.web.dependencies import Database, DeviceId, Slow, actor_of
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from query_api.web.resource import Resource
from shared.access import audit
from shared.access.audit import Action

ResultId = Annotated[int, PathParameter(description="Id of the result.")]


class _ResultsBefore(msgspec.Struct, frozen=True, array_like=True, tag="results"):
    device_id: int
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


@get(
    "/result/{device_id:str}",
    permission=Permission.READ,
    summary="List a device's analysis results",
    response_description="A page of results.",
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
    """Results of the device's queued analyses, newest first."""
    before = paging.decode(cursor, _ResultsBefore, device_id=device_id)
    async with slow_reads.connection(request) as connection:
        await require_device(connection, device_id)
        found = await results.select(connection, device_id, before.id if before else MAX_ID, limit + 1)
    return paging.page(request, found, limit, lambda last: _ResultsBefore(device_id, last.id))


@get(
    "/result/{device_id:str}/{result_id:str}",
    permission=Permission.READ,
    summary="Get an analysis result",
    response_description="The result.",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def show_result(device_id: DeviceId, result_id: ResultId, database: Database) -> AnalysisResult:
    """The result of a queued analysis of the device."""
    async with database.connection() as connection:
        found = await results.find(connection, device_id, result_id)
    if found is None:
        raise _no_such_result(device_id, result_id)
    return found


@delete(
    "/result/{device_id:str}/{result_id:str}",
    permission=Permission.ADMINISTER,
    summary="Delete an analysis result",
    response_description="Deleted.",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def delete_result(request: AnyRequest, device_id: DeviceId, result_id: ResultId, database: Database) -> None:
    """The request is kept, without the result."""
    async with database.connection() as connection, connection.transaction():
        if not await results.delete(connection, device_id, result_id):
            raise _no_such_result(device_id, result_id)
        subject = f"result {result_id} of device {device_id}"
        await audit.record(connection, actor_of(request), Action.RESULT_DELETED, subject)


def _no_such_result(device_id: int, result_id: int) -> Refused:
    return Refused(
        problems.NOT_FOUND,
        f"device {device_id} has no analysis result {result_id}: GET /stats/analysis/result/{device_id} lists them",
    )


router = Resource("/stats/analysis", route_handlers=[list_results, show_result, delete_result], tags=["analysis"])
