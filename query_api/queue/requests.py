"""Requests of analyses, as clients and schedules use them: queued, found, listed, cancelled, retried."""

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg.rows import dict_row

from query_api.access.rules import ANYBODY, Principal
from query_api.calendar.period import Period
from query_api.errors import Fault, InvalidFields, RequestDone, RequestEnded, UnknownDevices, UnknownRequest
from query_api.ids import is_id
from query_api.queue import channels
from query_api.queue.records import AnalysisRequest, Status, find_shown, shown_to
from query_api.statistics.figures import FIVE, FigureNames
from shared.event_loop.parts import mapped_rows
from shared.postgres.connections import Connection

MAX_CALLBACKS = 20
"""Callbacks of one request: each client that joins a queued request may add one."""

# The device is locked first, as its deletion locks it first. DO UPDATE changes nothing: it locks a request that is
# queued already, so that no worker claims it before the callback is added. It becomes a person's request once a person
# has joined it. The order prevents deadlocks.
_ENQUEUE = """
    INSERT INTO analysis_requests AS request (device_id, period, figures, joinable, owner, by_schedule)
    SELECT device.id, tstzrange(wanted.start, wanted."end", '[]'), wanted.figures, true, wanted.owner, by_schedule
    FROM (SELECT device_id, start, "end", owner, ARRAY(SELECT jsonb_array_elements_text(texts::jsonb)) AS figures,
                 by_schedule
          FROM unnest(%(devices)s::bigint[], %(starts)s::timestamptz[], %(ends)s::timestamptz[], %(figures)s::text[],
                      %(owners)s::text[], %(by_schedule)s::boolean[])
               AS given (device_id, start, "end", texts, owner, by_schedule)) AS wanted
    JOIN devices AS device ON device.id = device_id
    ORDER BY device.id, start, "end", figures
    FOR KEY SHARE OF device
    ON CONFLICT (device_id, period, figures) WHERE joinable
    DO UPDATE SET joinable = request.joinable, by_schedule = request.by_schedule AND excluded.by_schedule
    RETURNING id, device_id, lower(period), upper(period), figures
"""
_NOTIFY = "SELECT pg_notify(%s, '')"
_ADD_CALLBACKS = """
    INSERT INTO analysis_callbacks (request_id, url, owner)
    SELECT * FROM unnest(%(ids)s::bigint[], %(urls)s::text[], %(owners)s::text[])
    ON CONFLICT (request_id, url) DO NOTHING
"""
_TOO_MANY_CALLBACKS = """
    SELECT request_id FROM analysis_callbacks WHERE request_id = ANY(%s) GROUP BY request_id HAVING count(*) > %s
"""


class Callback(msgspec.Struct, frozen=True):
    """The address of a callback, and the owner who gave it."""

    url: str
    owner: str | None


class Wanted(msgspec.Struct, frozen=True):
    """An analysis to be queued. `owner` owns a new request. `by_schedule`: a schedule asks for it, and not a person."""

    device_id: int
    period: Period
    figures: FigureNames = FIVE
    callback: Callback | None = None
    owner: str | None = None
    by_schedule: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """The values that equal requests share."""
        return self.device_id, self.period.start, self.period.end, tuple(self.figures.names)


async def enqueue(
    connection: Connection,
    device_id: int,
    period: Period,
    wanted: FigureNames = FIVE,
    callback: Callback | None = None,
    principal: Principal = ANYBODY,
) -> AnalysisRequest:
    """Queue an analysis, or join a queued request for an equal one, and return the request.

    `principal` owns a new request. Raises UnknownDevices, and InvalidFields where the request has too many callbacks.
    """
    if not is_id(device_id):
        raise UnknownDevices([device_id])
    async with connection.transaction():
        (queued,) = await enqueue_all(connection, [Wanted(device_id, period, wanted, callback, principal.owner)])
        return await find(connection, queued, principal)


async def enqueue_all(connection: Connection, wanted: Sequence[Wanted]) -> list[int]:
    """Queue the analyses and notify the workers, or join queued requests for equal ones, in the caller's transaction.

    Returns the id of each one's request. Raises as `enqueue`.
    """
    different = list({one.key: one for one in reversed(wanted)}.values())
    columns = {
        "devices": [one.device_id for one in different], "starts": [one.period.start for one in different],
        "ends": [one.period.end for one in different], "owners": [one.owner for one in different],
        "figures": [msgspec.json.encode(one.figures.names).decode() for one in different],
        "by_schedule": [one.by_schedule for one in different],
    }  # fmt: skip
    rows = await (await connection.execute(_ENQUEUE, columns)).fetchall()
    ids = {(device_id, start, end, tuple(figures)): request for request, device_id, start, end, figures in rows}
    if unknown := sorted({one.device_id for one in different if one.key not in ids}):
        raise UnknownDevices(unknown)
    await _add_callbacks(connection, [(ids[one.key], one.callback) for one in wanted if one.callback is not None])
    await connection.execute(_NOTIFY, (channels.QUEUED,))
    return [ids[one.key] for one in wanted]


async def _add_callbacks(connection: Connection, added: Sequence[tuple[int, Callback]]) -> None:
    if not added:
        return
    ids = [request for request, _ in added]
    columns = {"ids": ids, "urls": [one.url for _, one in added], "owners": [one.owner for _, one in added]}
    await connection.execute(_ADD_CALLBACKS, columns)
    row = await (await connection.execute(_TOO_MANY_CALLBACKS, (ids, MAX_CALLBACKS))).fetchone()
    if row is not None:
        raise InvalidFields(Fault("callback", f"expected one of at most {MAX_CALLBACKS} for request {row[0]}"))


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
        return await mapped_rows(cursor, lambda row: shown_to(principal, row))


# Without its lease a running analysis cannot be finished. Its worker is notified, and stops.
_CANCEL = """
    UPDATE analysis_requests
    SET status = 'cancelled', joinable = false, run_after = NULL, finished_at = now(),
        lease_token = NULL, lease_until = NULL
    WHERE id = %(id)s AND status IN ('queued', 'running') AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
    RETURNING owner
"""


class Changed(msgspec.Struct, frozen=True):
    """A request that may have been changed. `was_own`: it belonged to the key that changed it."""

    request: AnalysisRequest
    is_changed: bool
    was_own: bool


async def cancel(connection: Connection, request_id: int, principal: Principal) -> Changed:
    """Cancel the request. Raises UnknownRequest and RequestEnded."""
    if is_id(request_id):
        async with connection.transaction():
            row = await (await connection.execute(_CANCEL, {"id": request_id})).fetchone()
            if row is not None:
                return Changed(await find(connection, request_id, principal), True, _is_own(row[0], principal))
    ended = await find(connection, request_id, principal)
    raise RequestEnded(request_id, ended.status)


def _is_own(owner: str | None, principal: Principal) -> bool:
    return owner is not None and owner == principal.owner


# It is not joinable, so it cannot collide with an equal request that was queued meanwhile. The new message id makes its
# next callback another message for the receiver. The end that is being sent, if any, loses its token.
_RETRY = """
    WITH ended AS (
        SELECT id, owner FROM analysis_requests
        WHERE id = %(id)s AND status IN ('failed', 'cancelled')
          AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
        FOR UPDATE
    ), retried AS (
        UPDATE analysis_requests AS request
        SET status = 'queued', attempts = 0, owner = %(owner)s, by_schedule = false, created_at = now(),
            started_at = NULL, finished_at = NULL
        FROM ended WHERE request.id = ended.id
        RETURNING request.id, ended.owner
    ), waiting AS (
        UPDATE analysis_callbacks
        SET status = 'waiting', attempts = 0, due_at = NULL, token = NULL, last_error = NULL,
            message_id = gen_random_uuid()
        FROM retried WHERE request_id = retried.id
    )
    SELECT owner, pg_notify(%(channel)s, '') FROM retried
"""


async def retry(connection: Connection, request_id: int, principal: Principal) -> Changed:
    """Queue a request again that failed or was cancelled, for the principal, and notify the workers.

    One that is queued or running already is unchanged. Raises UnknownRequest and RequestDone.
    """
    values = {"id": request_id, "owner": principal.owner, "channel": channels.QUEUED}
    row = await (await connection.execute(_RETRY, values)).fetchone() if is_id(request_id) else None
    found = await find(connection, request_id, principal)
    if found.status == "done":
        raise RequestDone(request_id)
    return Changed(found, row is not None, row is not None and _is_own(row[0], principal))


# For their workers, and for clients that wait. Requests beyond the limit are notified as the worker removes them.
_NOTIFY_ENDED = """
    SELECT pg_notify(%(channel)s, id::text)
    FROM (SELECT id FROM analysis_requests WHERE device_id = %(device_id)s AND status IN ('queued', 'running')
          ORDER BY status DESC, id DESC LIMIT 1000) AS active
"""


async def notify_ended(connection: Connection, device_id: int) -> None:
    """Notify that the requests of a deleted device have ended."""
    await connection.execute(_NOTIFY_ENDED, {"device_id": device_id, "channel": channels.ENDED})
