"""Analyses: at once, or queued for a worker; their requests and their results."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import PathParameter
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED
from psycopg.rows import DictRow, dict_row

from query_api import paging, problems
from query_api.bodies import JsonRequest
from query_api.devices import MAX_ID, DeviceId, find, no_such_device
from query_api.problems import Refused, documented
from query_api.resource import Resource
from query_api.state import Database
from query_api.times import Period
from shared.analysis import Analysis, Figures, analyse
from shared.database import Connection

Status = Literal["queued", "running", "done", "failed", "cancelled"]
RequestId = Annotated[int, PathParameter(description="The request's number.")]

_Id = Annotated[int, msgspec.Meta(description="Its number.", examples=[1])]
_Device = Annotated[int, msgspec.Meta(description="The device's number.", examples=[1])]
_Start = Annotated[
    datetime | None, msgspec.Meta(description="The period's start, included; null: since the first reading.")
]
_End = Annotated[datetime | None, msgspec.Meta(description="The period's end, included; null: to the last reading.")]


class AnalysisRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A queued analysis, and how far it is."""

    id: _Id
    device_id: _Device
    start: _Start
    end: _End
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


class AnalysisResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a queued analysis found."""

    id: _Id
    request_id: Annotated[int, msgspec.Meta(description="The number of the request that asked for it.")]
    device_id: _Device
    start: _Start
    end: _End
    x: Figures
    y: Figures
    z: Figures
    created_at: Annotated[datetime, msgspec.Meta(description="When it was found.")]


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


router = Resource(
    "/stats/analysis",
    route_handlers=[analyse_now, queue_analysis, show_request, cancel_request, list_results],
    tags=["analysis"],
)
