"""Routes of queued analyses: queue, get, list, count, cancel, retry."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter, SkipValidation
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from query_api.access.rules import Permission, Principal
from query_api.analyses import prefer
from query_api.analyses.prefer import PreferHeader
from query_api.calendar.period import Period
from query_api.ids import MAX_ID, is_id
from query_api.queue import requests as queue
from query_api.queue.addresses import MAX_URL_LENGTH, URL_PATTERN, CallbackRules
from query_api.queue.counts import RequestCounts, count_by_status
from query_api.queue.quotas import Quotas
from query_api.queue.records import ENDED, AnalysisRequest, Status
from query_api.queue.waiting import Waits
from query_api.statistics.figures import FigureNames
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, documented
from query_api.web.answers.vary import depends_on
from query_api.web.dependencies import Database, DeviceId, Slow, actor_of
from query_api.web.disconnect import cancelled_when_gone
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from query_api.web.resource import Resource
from shared.access import audit
from shared.access.audit import Action
from shared.postgres.connections import Connection

RequestId = Annotated[int, PathParameter(description="Id of the request.")]
CallbackUrl = Annotated[
    str | None,
    QueryParameter(
        schema_extra={"pattern": URL_PATTERN, "max_length": MAX_URL_LENGTH},
        description="An http or https URL that receives a signed POST with the request and its result when the "
        "request is done, failed or cancelled. It has no user, password or fragment, and no private address. Its port "
        "is one of WEBHOOK_PORTS, by default 80 or 443.",
    ),
]
_LOCATION = ResponseHeader(
    "Location", value="", documentation_only=True, description="The path of the request."
)  # fmt: skip


@post(
    "/{device_id:str}/async",
    permission=Permission.QUEUE,
    status_code=HTTP_202_ACCEPTED,
    summary="Queue an analysis",
    response_description="Queued.",
    response_headers=[_LOCATION, *prefer.RESPONSE_HEADERS],
    responses={
        HTTP_200_OK: ResponseSpec(
            AnalysisRequest,
            generate_examples=False,
            description="The request finished within the seconds of Prefer: wait.",
        ),
        **documented(problems.REVERSED_PERIOD, problems.NOT_FOUND, problems.INVALID_VALUE),
    },
)
async def queue_analysis(
    request: JsonRequest,
    device_id: DeviceId,
    period: NamedDependency[Period],
    wanted: NamedDependency[FigureNames],
    database: Database,
    waits: NamedDependency[SkipValidation[Waits]],
    callback_rules: NamedDependency[SkipValidation[CallbackRules]],
    quotas: NamedDependency[SkipValidation[Quotas]],
    callback: CallbackUrl = None,
    prefer_header: PreferHeader = None,  # for the document: the handler reads all headers of this name
) -> Response[AnalysisRequest]:
    """A worker computes the analysis. The request and /stats/analysis/result/{device_id} then have the result.

    If an equal analysis is queued already, its request is returned. With `Prefer: wait=N` the response is sent when the
    analysis finishes, or after N seconds.
    """
    if callback is not None:
        callback_rules.require(callback)
    depends_on(request, "Prefer")
    seconds = prefer.wait_of(request.headers.getall("Prefer", []))
    principal: Principal = request.auth
    async with database.connection() as connection, connection.transaction():
        await quotas.take_turn(connection, principal)
        added = queue.Callback(callback, principal.owner) if callback is not None else None
        queued = await queue.enqueue(connection, device_id, period, wanted, added, principal)
        await quotas.require_queued(connection, principal)
    if seconds:
        async with cancelled_when_gone(request):
            queued = await waits.until_ended(queued, seconds, principal)
    return Response(
        queued,
        status_code=HTTP_200_OK if queued.status in ENDED else HTTP_202_ACCEPTED,
        headers={"Location": f"/stats/analysis/requests/{queued.id}", **prefer.answer_headers(seconds)},
    )


class _RequestsBefore(msgspec.Struct, frozen=True, array_like=True, tag="requests"):
    device_id: int | None
    status: Status | None
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


@get(
    "/requests",
    permission=Permission.READ,
    summary="List queued analyses",
    response_description="A page of requests.",
    response_headers=paging.HEADERS,
    responses=documented(problems.BAD_CURSOR, problems.INVALID_VALUE),
)
async def list_requests(
    request: JsonRequest,
    slow_reads: Slow,
    status: Annotated[Status | None, QueryParameter(description="Return requests with this status.")] = None,
    device_id: Annotated[int | None, QueryParameter(description="Return requests of this device.")] = None,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[AnalysisRequest]]:
    """All requests, newest first: queued, running and finished."""
    before = paging.decode(cursor, _RequestsBefore, device_id=device_id, status=status)
    if device_id is not None and not is_id(device_id):
        return Response([])
    async with slow_reads.connection(request) as connection:
        found = await queue.select(
            connection, device_id, status, before.id if before else MAX_ID, limit + 1, request.auth
        )
    return paging.page(request, found, limit, lambda last: _RequestsBefore(device_id, status, last.id))


@get(
    "/requests/counts",
    permission=Permission.READ,
    summary="Count queued analyses by status",
    response_description="The number of requests by status.",
    responses=documented(problems.REVERSED_PERIOD, problems.INVALID_VALUE),
)
async def count_requests(request: JsonRequest, slow_reads: Slow, period: NamedDependency[Period]) -> RequestCounts:
    """The period selects the requests that have ended, by the time of their end.

    RESULTS_KEEP deletes old requests, which are not counted any more.
    """
    async with slow_reads.connection(request) as connection:
        return await count_by_status(connection, period)


@get(
    "/requests/{request_id:str}",
    permission=Permission.READ,
    summary="Get a queued analysis",
    response_description="The request.",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def show_request(request: AnyRequest, request_id: RequestId, database: Database) -> AnalysisRequest:
    """The status, its times, and the result."""
    async with database.connection() as connection:
        return await queue.find(connection, request_id, request.auth)


@delete(
    "/requests/{request_id:str}",
    permission=Permission.QUEUE,
    status_code=HTTP_200_OK,
    summary="Cancel a queued or running analysis",
    response_description="The cancelled request.",
    responses=documented(problems.NOT_FOUND, problems.ALREADY_ENDED, problems.INVALID_VALUE),
)
async def cancel_request(request: AnyRequest, request_id: RequestId, database: Database) -> AnalysisRequest:
    """The analysis is cancelled immediately, for every client that requested it, and has no result."""
    async with database.connection() as connection, connection.transaction():
        cancelled = await queue.cancel(connection, request_id, request.auth)
        await _record(connection, request, Action.ANALYSIS_CANCELLED, cancelled)
    return cancelled.request


@post(
    "/requests/{request_id:str}/retry",
    permission=Permission.QUEUE,
    status_code=HTTP_202_ACCEPTED,
    summary="Retry an analysis that failed or was cancelled",
    response_description="Queued again.",
    responses={
        HTTP_200_OK: ResponseSpec(
            AnalysisRequest, generate_examples=False, description="It is queued or running already, and unchanged."
        ),
        **documented(problems.NOT_FOUND, problems.ALREADY_DONE, problems.INVALID_VALUE),
    },
)
async def retry_request(
    request: AnyRequest,
    request_id: RequestId,
    database: Database,
    quotas: NamedDependency[SkipValidation[Quotas]],
) -> Response[AnalysisRequest]:
    """The request is queued again under its id, with as many attempts as a new one.

    It counts towards QUEUED_PER_KEY of the key that retries it. Its callbacks are sent when it has ended again. A tick
    of a schedule keeps its request, and so gets the result.
    """
    async with database.connection() as connection, connection.transaction():
        await quotas.take_turn(connection, request.auth)
        retried = await queue.retry(connection, request_id, request.auth)
        if retried.is_changed:
            await quotas.require_queued(connection, request.auth)
            await _record(connection, request, Action.ANALYSIS_RETRIED, retried)
    return Response(retried.request, status_code=HTTP_202_ACCEPTED if retried.is_changed else HTTP_200_OK)


async def _record(connection: Connection, request: AnyRequest, action: Action, changed: queue.Changed) -> None:
    """Add an entry to the audit log, unless the request was the key's own: a key could fill the log in a loop."""
    if not changed.was_own:
        await audit.record(connection, actor_of(request), action, f"request {changed.request.id}")


router = Resource(
    "/stats/analysis",
    route_handlers=[queue_analysis, list_requests, count_requests, show_request, cancel_request, retry_request],
    tags=["analysis"],
)
