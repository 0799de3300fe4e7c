"""Requests of analyses, as clients and schedules use them: queued, found, listed, cancelled."""

from typing import Any

import msgspec
from psycopg.rows import dict_row

from query_api.access.rules import ANYBODY, Principal
from query_api.calendar.period import Period
from query_api.errors import Fault, InvalidFields, RequestEnded, UnknownDevices, UnknownRequest
from query_api.ids import is_id
from query_api.queue import channels
from query_api.queue.records import AnalysisRequest, Status, find_shown, shown_to
from query_api.statistics.figures import FIVE, FigureNames
from shared.postgres.connections import Connection

MAX_CALLBACKS = 20
"""Callbacks of one request: each client that joins a queued request may add one."""

# The device is locked first, as its deletion locks it first. DO UPDATE changes nothing: it locks a request that is
# queued already, so that no worker claims it before the callback is added.
_ENQUEUE = """
    INSERT INTO analysis_requests AS request (device_id, period, figures, joinable, owner)
    SELECT id, tstzrange(%(start)s::timestamptz, %(end)s::timestamptz, '[]'), %(figures)s::text[], true, %(owner)s::text
    FROM devices WHERE id = %(device_id)s FOR KEY SHARE
    ON CONFLICT (device_id, period, figures) WHERE joinable DO UPDATE SET joinable = request.joinable
    RETURNING id, pg_notify(%(channel)s, id::text)
"""
_ADD_CALLBACK = """
    INSERT INTO analysis_callbacks (request_id, url, owner) VALUES (%(id)s, %(url)s, %(owner)s)
    ON CONFLICT (request_id, url) DO NOTHING
"""
_CALLBACKS = "SELECT count(*) FROM analysis_callbacks WHERE request_id = %s"


class Callback(msgspec.Struct, frozen=True):
    """The address of a callback, and the owner who gave it."""

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
    """Queue an analysis and notify the workers, or join a queued request for an equal one, in a transaction.

    `principal` owns a new request. Raises UnknownDevices, and InvalidFields where the request has too many callbacks.
    """
    if not is_id(device_id):
        raise UnknownDevices([device_id])
    parameters = {
        "device_id": device_id, "start": period.start, "end": period.end, "figures": wanted.names,
        "owner": principal.owner, "channel": channels.QUEUED,
    }  # fmt: skip
    async with connection.transaction():
        row = await (await connection.execute(_ENQUEUE, parameters)).fetchone()
        if row is None:
            raise UnknownDevices([device_id])
        if callback is not None:
            await _add_callback(connection, row[0], callback)
        return await find(connection, row[0], principal)


async def _add_callback(connection: Connection, request_id: int, callback: Callback) -> None:
    await connection.execute(_ADD_CALLBACK, {"id": request_id, "url": callback.url, "owner": callback.owner})
    row = await (await connection.execute(_CALLBACKS, (request_id,))).fetchone()
    assert row is not None, "an aggregate has one row"
    if row[0] > MAX_CALLBACKS:
        raise InvalidFields(Fault("callback", f"expected one of at most {MAX_CALLBACKS} for request {request_id}"))


async def find(connection: Connection, request_id: int, principal: Principal) -> AnalysisRequest:
    """Return the request as the principal may see it. Raises UnknownRequest."""
    found = await find_shown(connection, request_id, principal) if is_id(request_id) else None
    if found is None:
        raise UnknownRequest(request_id)
    return found


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


async def select(
    connection: Connection, device_id: int | None, status: Status | None, before: int, limit: int, principal: Principal
) -> list[AnalysisRequest]:
    """Return the requests with ids below `before`, newest first. None selects all devices, or all statuses."""
    if device_id is None:
        statement = _LIST if status is None else _LIST_STATUS
    else:
        statement = _LIST_DEVICE if status is None else _LIST_BOTH
    parameters: dict[str, Any] = {"device_id": device_id, "status": status, "before": before, "limit": limit}
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        return [shown_to(principal, row) for row in await cursor.fetchall()]


# Without its lease a running analysis cannot be finished. Its worker is notified, and stops.
_CANCEL = """
    UPDATE analysis_requests
    SET status = 'cancelled', joinable = false, run_after = NULL, finished_at = now(),
        lease_token = NULL, lease_until = NULL
    WHERE id = %(id)s AND status IN ('queued', 'running') AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
"""


async def cancel(connection: Connection, request_id: int, principal: Principal) -> AnalysisRequest:
    """Cancel the request, and return it. Raises UnknownRequest and RequestEnded."""
    if is_id(request_id):
        async with connection.transaction():
            if (await connection.execute(_CANCEL, {"id": request_id})).rowcount:
                return await find(connection, request_id, principal)
    ended = await find(connection, request_id, principal)
    raise RequestEnded(request_id, ended.status)


# For their workers, and for clients that wait. Requests beyond the limit are notified as the worker removes them.
_NOTIFY_ENDED = """
    SELECT pg_notify(%(channel)s, id::text)
    FROM (SELECT id FROM analysis_requests WHERE device_id = %(device_id)s AND status IN ('queued', 'running')
          ORDER BY status DESC, id DESC LIMIT 1000) AS active
"""


async def notify_ended(connection: Connection, device_id: int) -> None:
    """Notify that the requests of a deleted device have ended."""
    await connection.execute(_NOTIFY_ENDED, {"device_id": device_id, "channel": channels.ENDED})
