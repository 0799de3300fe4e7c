"""The statements with which a worker holds and ends requests. Each is its own transaction.

queued ──claim──▶ running ──finish──▶ done          (`claiming.py` claims)
  ▲                  │ fail: attempts left, later; or the last one ──▶ failed
  └── give_back, fail, reap (its lease expired)

A worker that claims an analysis gets a lease with a token. Its later statements name the token, and change nothing
if another worker has taken over or the request was cancelled.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from query_api.queue import channels
from query_api.queue.retries import Retries
from query_api.statistics.analysis import Analysis
from query_api.statistics.figures import Figures
from shared.postgres.connections import Connection

LEASE = timedelta(seconds=30)
RETRIES = Retries(max_attempts=5, base=timedelta(seconds=2), factor=2, cap=timedelta(minutes=5))
"""The delays of five attempts add up to at most half a minute."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """An analysis that this worker has claimed."""

    id: int
    device_id: int
    start: datetime | None
    end: datetime | None
    figures: list[str]
    attempts: int
    token: UUID

    @property
    def is_retry(self) -> bool:
        """Whether a worker has claimed the request before: it may have ended that worker."""
        return self.attempts > 1


# SKIP LOCKED, as in give_back: the deletion of a device locks its requests in another order, and a request that
# another transaction is ending needs no lease.
_RENEW = """
    UPDATE analysis_requests SET lease_until = now() + %(lease)s
    WHERE id IN (SELECT id FROM analysis_requests WHERE status = 'running' AND lease_token = ANY(%(tokens)s)
                 FOR UPDATE SKIP LOCKED)
    RETURNING lease_token
"""


async def renew(connection: Connection, tokens: Sequence[UUID], lease: timedelta = LEASE) -> set[UUID]:
    """Renew the leases. Returns the tokens that are still valid."""
    cursor = await connection.execute(_RENEW, {"lease": lease, "tokens": list(tokens)})
    return {row[0] for row in await cursor.fetchall()}


# The device is locked first, as its deletion locks it first, so that the two cannot deadlock.
_FINISH = """
    WITH device AS MATERIALIZED (
        SELECT id FROM devices WHERE id = %(device_id)s FOR KEY SHARE
    ), done AS (
        UPDATE analysis_requests AS request
        SET status = 'done', finished_at = now(), lease_token = NULL, lease_until = NULL
        FROM device
        WHERE request.id = %(id)s AND device_id = device.id AND status = 'running' AND lease_token = %(token)s
        RETURNING request.id, device_id, lower(period) AS start, upper(period) AS "end"
    )
    INSERT INTO analysis_results (request_id, device_id, "start", "end", x, y, z)
    SELECT id, device_id, start, "end", %(x)s::jsonb, %(y)s::jsonb, %(z)s::jsonb FROM done
"""


async def finish(connection: Connection, held: Claim, found: Analysis) -> bool:
    """Write the result and end the request; False, with nothing written, if the claim is lost."""
    parameters = {
        "id": held.id, "device_id": held.device_id, "token": held.token,
        "x": _json(found.x), "y": _json(found.y), "z": _json(found.z),
    }  # fmt: skip
    return (await connection.execute(_FINISH, parameters)).rowcount == 1


# It waits for no lock, so that none of the results waits for another transaction.
_FINISH_ALL = """
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest(%(ids)s::bigint[], %(devices)s::bigint[], %(tokens)s::uuid[],
                             %(xs)s::text[], %(ys)s::text[], %(zs)s::text[]) AS given (id, device_id, token, x, y, z)
    ), device AS MATERIALIZED (
        SELECT id FROM devices WHERE id IN (SELECT device_id FROM given) FOR KEY SHARE SKIP LOCKED
    ), held AS MATERIALIZED (
        SELECT request.id
        FROM given JOIN device ON device.id = given.device_id JOIN analysis_requests AS request ON request.id = given.id
        WHERE request.status = 'running' AND request.lease_token = given.token
        FOR UPDATE OF request SKIP LOCKED
    ), done AS (
        UPDATE analysis_requests AS request
        SET status = 'done', finished_at = now(), lease_token = NULL, lease_until = NULL
        FROM held WHERE request.id = held.id
        RETURNING request.id, device_id, lower(period) AS start, upper(period) AS "end"
    ), written AS (
        INSERT INTO analysis_results (request_id, device_id, "start", "end", x, y, z)
        SELECT done.id, done.device_id, start, "end", x::jsonb, y::jsonb, z::jsonb FROM done JOIN given USING (id)
    )
    SELECT id FROM done
"""


async def finish_all(connection: Connection, ended: Sequence[tuple[Claim, Analysis]]) -> set[int]:
    """Write the results and end the requests. Returns the ids of those that it has ended.

    Of the others the claim is lost, or another transaction has locked the device or the request: `finish` waits for it.
    """
    columns = {
        "ids": [held.id for held, _ in ended], "devices": [held.device_id for held, _ in ended],
        "tokens": [held.token for held, _ in ended], "xs": [_json(found.x) for _, found in ended],
        "ys": [_json(found.y) for _, found in ended], "zs": [_json(found.z) for _, found in ended],
    }  # fmt: skip
    rows = await (await connection.execute(_FINISH_ALL, columns)).fetchall()
    return {row[0] for row in rows}


def _json(figures: Figures) -> str:
    return msgspec.json.encode(figures).decode()


_FAIL = """
    UPDATE analysis_requests
    SET status = CASE WHEN attempts < %(max_attempts)s THEN 'queued' ELSE 'failed' END,
        finished_at = CASE WHEN attempts < %(max_attempts)s THEN NULL ELSE now() END,
        run_after = CASE WHEN attempts < %(max_attempts)s
                         THEN now() + (0.5 + random() / 2) * least(%(cap)s, %(base)s * %(factor)s ^ (attempts - 1)) END,
        last_error = %(error)s, lease_token = NULL, lease_until = NULL
    WHERE id = %(id)s AND status = 'running' AND lease_token = %(token)s
    RETURNING status
"""


async def fail(connection: Connection, held: Claim, error: str, retries: Retries = RETRIES) -> str | None:
    """Queue the request for a retry, or end it after the last attempt.

    Returns "queued" or "failed"; None if the claim is lost.
    """
    parameters = {"id": held.id, "token": held.token, "error": error, **msgspec.structs.asdict(retries)}
    row = await (await connection.execute(_FAIL, parameters)).fetchone()
    return None if row is None else str(row[0])


_GIVE_BACK = """
    WITH queued AS (
        UPDATE analysis_requests
        SET status = 'queued', attempts = attempts - 1, lease_token = NULL, lease_until = NULL
        WHERE id IN (SELECT id FROM analysis_requests WHERE status = 'running' AND lease_token = ANY(%(tokens)s)
                     FOR UPDATE SKIP LOCKED)
        RETURNING id
    )
    SELECT pg_notify(%(channel)s, '') FROM queued LIMIT 1
"""


async def give_back(connection: Connection, tokens: Sequence[UUID]) -> None:
    """Queue the requests again, as if they had not been claimed, and notify the workers."""
    await connection.execute(_GIVE_BACK, {"tokens": list(tokens), "channel": channels.QUEUED})


# A lost lease counts as an attempt, so that an analysis that crashes its worker ends too.
_REAP = """
    UPDATE analysis_requests
    SET status = CASE WHEN attempts < %(max_attempts)s THEN 'queued' ELSE 'failed' END,
        finished_at = CASE WHEN attempts < %(max_attempts)s THEN NULL ELSE now() END,
        last_error = 'the lease of its worker expired',
        lease_token = NULL, lease_until = NULL
    WHERE id IN (SELECT id FROM analysis_requests WHERE status = 'running' AND lease_until < now()
                 FOR UPDATE SKIP LOCKED)
    RETURNING id, status
"""


async def reap(connection: Connection) -> dict[int, str]:
    """Take requests with an expired lease from their workers. Returns "queued" or "failed" by id."""
    cursor = await connection.execute(_REAP, {"max_attempts": RETRIES.max_attempts})
    return dict(await cursor.fetchall())


_LENGTH = "SELECT count(*) FROM analysis_requests WHERE status = 'queued'"


async def length(connection: Connection) -> int:
    """Return the number of queued requests."""
    row = await (await connection.execute(_LENGTH)).fetchone()
    assert row is not None, "an aggregate has one row"
    return int(row[0])


_WAS_CANCELLED = """
    SELECT status = 'cancelled' OR NOT EXISTS (SELECT FROM devices WHERE devices.id = device_id)
    FROM analysis_requests WHERE id = %s
"""


async def was_cancelled(connection: Connection, request_id: int) -> bool:
    """Whether the request was cancelled or its device deleted, rather than claimed by another worker."""
    row = await (await connection.execute(_WAS_CANCELLED, (request_id,))).fetchone()
    return row is None or bool(row[0])
