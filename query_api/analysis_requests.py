"""Queued analyses: asked for, looked at, cancelled."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import PathParameter
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED
from psycopg.rows import DictRow, dict_row

from query_api import problems
from query_api.devices import MAX_ID, DeviceId, no_such_device
from query_api.fields import DeviceNumber, Id, PeriodEnd, PeriodStart
from query_api.problems import Refused, documented
from query_api.resource import Resource
from query_api.state import Database
from query_api.times import Period
from shared.database import Connection

Status = Literal["queued", "running", "done", "failed", "cancelled"]
RequestId = Annotated[int, PathParameter(description="The request's number.")]


class AnalysisRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A queued analysis, and how far it is."""

    id: Id
    device_id: DeviceNumber
    start: PeriodStart
    end: PeriodEnd
    status: Annotated[
        Status,
        msgspec.Meta(description="queued and running lead to done, failed (after several attempts) or cancelled."),
    ]
    attempts: Annotated[int, msgspec.Meta(description="How often a worker has begun it.")]
    last_error: Annotated[
        str | None, msgspec.Meta(description="Why the latest attempt that failed did; null: none has.")
    ]
    created_at: Annotated[datetime, msgspec.Meta(description="When it was queued.")]
    started_at: Annotated[datetime | None, msgspec.Meta(description="When the latest attempt began; null: none has.")]
    finished_at: Annotated[
        datetime | None, msgspec.Meta(description="When it was done, failed or cancelled; null: not yet.")
    ]


@post(
    "/{device_id:str}/async",
    status_code=HTTP_202_ACCEPTED,
    summary="Queue an analysis",
    response_headers=[
        ResponseHeader("Location", value="", documentation_only=True, description="Where to see how far it is.")
    ],
    responses=documented(problems.REVERSED_PERIOD, problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def queue_analysis(
    device_id: DeviceId, period: NamedDependency[Period], database: Database
) -> Response[AnalysisRequest]:
    """A worker takes it; its result is then under /stats/analysis/result/{device_id}."""
    async with database.connection() as connection:
        queued = await enqueue(connection, device_id, period)
    return Response(queued, headers={"Location": f"/stats/analysis/requests/{queued.id}"})


_ENQUEUE = """
    WITH queued AS (
        INSERT INTO analysis_requests (device_id, period)
        SELECT id, tstzrange(%(start)s::timestamptz, %(end)s::timestamptz, '[]')
        FROM devices WHERE id = %(device_id)s
        RETURNING id, device_id, lower(period) AS start, upper(period) AS end, status, attempts, last_error,
                  created_at, started_at, finished_at
    )
    SELECT queued.* FROM queued, pg_notify('analysis_requests', queued.id::text)
"""


async def enqueue(connection: Connection, device_id: int, period: Period) -> AnalysisRequest:
    """Queues an analysis and wakes the workers. Raises Refused where there is no such device."""
    if 0 < device_id <= MAX_ID:
        parameters = {"device_id": device_id, "start": period.start, "end": period.end}
        row = await _one(connection, _ENQUEUE, parameters)
        if row is not None:
            return msgspec.convert(row, AnalysisRequest)
    raise no_such_device(device_id)


async def _one(connection: Connection, query: str, parameters: dict[str, Any]) -> DictRow | None:
    async with connection.cursor(row_factory=dict_row) as cursor:
        return await (await cursor.execute(query, parameters)).fetchone()


@get(
    "/requests/{request_id:str}",
    summary="See how far a queued analysis is",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def show_request(request_id: RequestId, database: Database) -> AnalysisRequest:
    """Its status, and when it came to it."""
    async with database.connection() as connection:
        return await find_request(connection, request_id)


_FIND = """
    SELECT id, device_id, lower(period) AS start, upper(period) AS end, status, attempts, last_error,
           created_at, started_at, finished_at
    FROM analysis_requests WHERE id = %(id)s
"""


async def find_request(connection: Connection, request_id: int) -> AnalysisRequest:
    """The request. Raises Refused where there is none."""
    if 0 < request_id <= MAX_ID:
        row = await _one(connection, _FIND, {"id": request_id})
        if row is not None:
            return msgspec.convert(row, AnalysisRequest)
    raise Refused(problems.NOT_FOUND, f"there is no analysis request {request_id}")


@delete(
    "/requests/{request_id:str}",
    status_code=HTTP_200_OK,
    summary="Cancel a queued or running analysis",
    responses=documented(problems.NOT_FOUND, problems.ALREADY_ENDED, problems.INVALID_VALUE),
)
async def cancel_request(request_id: RequestId, database: Database) -> AnalysisRequest:
    """It is cancelled at once, and there will be no result."""
    async with database.connection() as connection:
        return await cancel(connection, request_id)


# Without its lease a running analysis can no longer be finished: the worker finds that out and drops it.
_CANCEL = """
    UPDATE analysis_requests
    SET status = 'cancelled', finished_at = now(), lease_token = NULL, lease_until = NULL
    WHERE id = %(id)s AND status IN ('queued', 'running')
    RETURNING id, device_id, lower(period) AS start, upper(period) AS end, status, attempts, last_error,
              created_at, started_at, finished_at
"""


async def cancel(connection: Connection, request_id: int) -> AnalysisRequest:
    """Cancels the request. Raises Refused where there is none, or it has ended."""
    if 0 < request_id <= MAX_ID:
        row = await _one(connection, _CANCEL, {"id": request_id})
        if row is not None:
            return msgspec.convert(row, AnalysisRequest)
    ended = await find_request(connection, request_id)
    raise Refused(
        problems.ALREADY_ENDED,
        f"request {request_id} is {ended.status}. {problems.ALREADY_ENDED.description}",
    )


router = Resource("/stats/analysis", route_handlers=[queue_analysis, show_request, cancel_request], tags=["analysis"])
