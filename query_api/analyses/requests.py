"""Queued analyses: asked for, looked at, listed, cancelled."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter, SkipValidation
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED
from psycopg.rows import dict_row

from query_api.access.principal import ANYBODY, Principal, actor_of
from query_api.access.rules import Access
from query_api.analyses import prefer
from query_api.analyses.prefer import PreferHeader
from query_api.devices.handlers import MAX_ID, DeviceId, no_such_device
from query_api.queue.addresses import CallbackUrl, Ports, check_url
from query_api.queue.quotas import Quotas
from query_api.queue.records import ENDED, AnalysisRequest, Status, find_shown, shown_to
from query_api.queue.waiting import Waits
from query_api.statistics.figures import FIVE, FigureNames
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Fault, Refused, documented, invalid
from query_api.web.answers.vary import depends_on
from query_api.web.disconnect import cancelled_when_gone
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from query_api.web.requests.times import Period
from query_api.web.resource import Resource
from query_api.web.state import Database, Slow
from shared.access import audit
from shared.access.audit import Action
from shared.postgres.connections import Connection

MAX_CALLBACKS = 20
"""Of one request: whoever joins one that waits may add one."""
RequestId = Annotated[int, PathParameter(description="The request's number.")]
_LOCATION = ResponseHeader(
    "Location", value="", documentation_only=True, description="Where to see how far it is."
)  # fmt: skip


class CallbackRules(msgspec.Struct, frozen=True):
    """What callbacks may be asked for here. signed: the secret that they take is set."""

    signed: bool
    allow_private: bool
    ports: Ports

    def require(self, url: str) -> None:
        """Raises Refused for an address that cannot be called."""
        if not self.signed:
            detail = "callbacks are signed, and this service has no secret for it: set DEVICESTAT_WEBHOOK_SECRET"
            raise invalid(Fault("callback", f"{detail}, for the API and the workers"))
        try:
            check_url(url, allow_private=self.allow_private, ports=self.ports)
        except ValueError as error:
            raise invalid(Fault("callback", str(error))) from None


@post(
    "/{device_id:str}/async",
    access=Access.QUEUE,
    status_code=HTTP_202_ACCEPTED,
    summary="Queue an analysis",
    response_headers=[_LOCATION, *prefer.RESPONSE_HEADERS],
    responses={
        HTTP_200_OK: ResponseSpec(
            AnalysisRequest, generate_examples=False, description="It has ended within the seconds of Prefer: wait."
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
    prefer_header: PreferHeader = None,  # documents it: headers of one name may come several times
) -> Response[AnalysisRequest]:
    """A worker takes it; its result is then with the request, and under /stats/analysis/result/{device_id}.

    Whoever asks for what waits already gets the request that is there. With `Prefer: wait=N` the answer comes when
    the analysis has ended, or after N seconds.
    """
    if callback is not None:
        callback_rules.require(callback)
    depends_on(request, "Prefer")
    seconds = prefer.wait_of(request.headers.getall("Prefer", []))
    principal: Principal = request.auth
    async with database.connection() as connection, connection.transaction():
        await quotas.take_turn(connection, principal)
        added = Callback(callback, principal.owner) if callback is not None else None
        queued = await enqueue(connection, device_id, period, wanted, added, principal)
        await quotas.require_queued(connection, principal)
    if seconds:
        async with cancelled_when_gone(request):
            queued = await waits.until_ended(queued, seconds, principal)
    return Response(
        queued,
        status_code=HTTP_200_OK if queued.status in ENDED else HTTP_202_ACCEPTED,
        headers={"Location": f"/stats/analysis/requests/{queued.id}", **prefer.answer_headers(seconds)},
    )


# The device first, as whoever deletes it does. DO UPDATE changes nothing: it locks the request that waits already, so
# that no worker begins it before the callback has joined it.
_ENQUEUE = """
    INSERT INTO analysis_requests AS request (device_id, period, figures, joinable, owner)
    SELECT id, tstzrange(%(start)s::timestamptz, %(end)s::timestamptz, '[]'), %(figures)s::text[], true, %(owner)s::text
    FROM devices WHERE id = %(device_id)s FOR KEY SHARE
    ON CONFLICT (device_id, period, figures) WHERE joinable DO UPDATE SET joinable = request.joinable
    RETURNING id, pg_notify('analysis_requests', id::text)
"""
_ADD_CALLBACK = """
    INSERT INTO analysis_callbacks (request_id, url, owner) VALUES (%(id)s, %(url)s, %(owner)s)
    ON CONFLICT (request_id, url) DO NOTHING
"""
_CALLBACKS = "SELECT count(*) FROM analysis_callbacks WHERE request_id = %s"


class Callback(msgspec.Struct, frozen=True):
    """An address to be called, and whose it is."""

    url: str
    owner: str | None


async def enqueue(
    connection: Connection,
    device_id: int,
    period: Period,
    wanted: FigureNames = FIVE,
    callback: Callback | None = None,
    principal: Principal = ANYBODY,
) -> AnalysisRequest:
    """Queues an analysis and wakes the workers, or joins the one that waits for the same already.

    It is in one transaction. `principal`: whose it is, if it is new. Raises Refused where there is no such device, or
    no room for the callback.
    """
    if not 0 < device_id <= MAX_ID:
        raise no_such_device(device_id)
    parameters = {
        "device_id": device_id, "start": period.start, "end": period.end, "figures": wanted.names,
        "owner": principal.owner,
    }  # fmt: skip
    async with connection.transaction():
        row = await (await connection.execute(_ENQUEUE, parameters)).fetchone()
        if row is None:
            raise no_such_device(device_id)
        if callback is not None:
            await _add_callback(connection, row[0], callback)
        queued = await find_shown(connection, row[0], principal)
        assert queued is not None, "it is this transaction's own"
    return queued


async def _add_callback(connection: Connection, request_id: int, callback: Callback) -> None:
    await connection.execute(_ADD_CALLBACK, {"id": request_id, "url": callback.url, "owner": callback.owner})
    row = await (await connection.execute(_CALLBACKS, (request_id,))).fetchone()
    assert row is not None, "an aggregate has one row"
    if row[0] > MAX_CALLBACKS:
        raise invalid(Fault("callback", f"expected one of at most {MAX_CALLBACKS} for request {request_id}"))


class _RequestsBefore(msgspec.Struct, frozen=True, array_like=True, tag="requests"):
    device_id: int | None
    status: Status | None
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


@get(
    "/requests",
    access=Access.READ,
    summary="List queued analyses",
    response_headers=paging.HEADERS,
    responses=documented(problems.BAD_CURSOR, problems.INVALID_VALUE),
)
async def list_requests(
    request: JsonRequest,
    slow_reads: Slow,
    status: Annotated[Status | None, QueryParameter(description="Only those that are.")] = None,
    device_id: Annotated[int | None, QueryParameter(description="Only the device's of this number.")] = None,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[AnalysisRequest]]:
    """Waiting, running and ended, the newest first."""
    before = paging.decode(cursor, _RequestsBefore) or _RequestsBefore(device_id, status, MAX_ID)
    if (before.device_id, before.status) != (device_id, status):
        raise paging.foreign()
    if device_id is not None and not 0 < device_id <= MAX_ID:
        return paging.page(request, [], None)
    async with slow_reads.connection(request) as connection:
        found = await requests(connection, before, limit + 1, request.auth)
    shown = found[:limit]
    last = msgspec.structs.replace(before, id=shown[-1].id) if len(found) > limit else None
    return paging.page(request, shown, last)


_LIST = "SELECT * FROM shown_analysis_requests WHERE id < %(before)s ORDER BY id DESC LIMIT %(limit)s"
_LIST_STATUS = """
    SELECT * FROM shown_analysis_requests WHERE status = %(status)s AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s
"""
_LIST_DEVICE = """
    SELECT * FROM shown_analysis_requests WHERE device_id = %(device_id)s AND id < %(before)s
    ORDER BY id DESC LIMIT %(limit)s
"""
_LIST_BOTH = """
    SELECT * FROM shown_analysis_requests WHERE device_id = %(device_id)s AND status = %(status)s AND id < %(before)s
    ORDER BY id DESC LIMIT %(limit)s
"""


async def requests(
    connection: Connection, before: _RequestsBefore, limit: int, principal: Principal
) -> list[AnalysisRequest]:
    """Those with numbers below the one given, of its device and status, the newest first."""
    if before.device_id is None:
        statement = _LIST if before.status is None else _LIST_STATUS
    else:
        statement = _LIST_DEVICE if before.status is None else _LIST_BOTH
    parameters: dict[str, Any] = {
        "device_id": before.device_id, "status": before.status, "before": before.id, "limit": limit,
    }  # fmt: skip
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        return [shown_to(principal, row) for row in await cursor.fetchall()]


@get(
    "/requests/{request_id:str}",
    access=Access.READ,
    summary="See how far a queued analysis is",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def show_request(request: AnyRequest, request_id: RequestId, database: Database) -> AnalysisRequest:
    """Its status, when it came to it, and its result."""
    async with database.connection() as connection:
        return await find_request(connection, request_id, request.auth)


async def find_request(connection: Connection, request_id: int, principal: Principal) -> AnalysisRequest:
    """The request. Raises Refused where there is none."""
    if 0 < request_id <= MAX_ID:
        found = await find_shown(connection, request_id, principal)
        if found is not None:
            return found
    raise Refused(problems.NOT_FOUND, f"there is no analysis request {request_id}")


@delete(
    "/requests/{request_id:str}",
    access=Access.QUEUE,
    status_code=HTTP_200_OK,
    summary="Cancel a queued or running analysis",
    responses=documented(problems.NOT_FOUND, problems.ALREADY_ENDED, problems.INVALID_VALUE),
)
async def cancel_request(request: AnyRequest, request_id: RequestId, database: Database) -> AnalysisRequest:
    """It is cancelled at once, for all who asked for it, and there will be no result."""
    async with database.connection() as connection, connection.transaction():
        cancelled = await cancel(connection, request_id, request.auth)
        await audit.record(connection, actor_of(request), Action.ANALYSIS_CANCELLED, f"request {request_id}")
    return cancelled


# Without its lease a running analysis can no longer be finished; its worker hears of it, and stops.
_CANCEL = """
    UPDATE analysis_requests
    SET status = 'cancelled', joinable = false, run_after = NULL, finished_at = now(),
        lease_token = NULL, lease_until = NULL
    WHERE id = %(id)s AND status IN ('queued', 'running') AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
"""


async def cancel(connection: Connection, request_id: int, principal: Principal) -> AnalysisRequest:
    """Cancels the request. Raises Refused where there is none, or it has ended."""
    if 0 < request_id <= MAX_ID:
        async with connection.transaction():
            if (await connection.execute(_CANCEL, {"id": request_id})).rowcount:
                return await find_request(connection, request_id, principal)
    ended = await find_request(connection, request_id, principal)
    raise Refused(
        problems.ALREADY_ENDED,
        f"request {request_id} is {ended.status}. {problems.ALREADY_ENDED.description}",
    )


router = Resource(
    "/stats/analysis",
    route_handlers=[queue_analysis, list_requests, show_request, cancel_request],
    tags=["analysis"],
)
