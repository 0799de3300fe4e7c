"""The statements with which a worker claims and ends requests. Each is its own transaction.

queued ──claim──▶ running ──finish──▶ done
  ▲                  │ fail: attempts left, later; or the last one ──▶ failed
  └── give_back, fail, reap (its lease expired)

A worker that claims an analysis gets a lease with a token. Its later statements name the token, and change nothing
if another worker has taken over or the request was cancelled.

Each worker claims from one device after another, round robin (ADR 18). So a device's backlog delays a request of
another device by one analysis at most, and the cost of a claim does not depend on the backlog.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from psycopg.rows import class_row

from query_api.queue.retries import Retries
from query_api.statistics.analysis import Analysis
from query_api.statistics.figures import Figures
from shared.postgres.connections import Connection

LEASE = timedelta(seconds=30)
RETRIES = Retries(max_attempts=5, base=timedelta(seconds=2), factor=2, cap=timedelta(minutes=5))
"""The delays of five attempts add up to at most half a minute."""
CANDIDATES = 16
"""Devices that a claim considers. As many workers can claim concurrently without finding nothing."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """An analysis that this worker has claimed."""

    id: int
    device_id: int
    start: datetime | None
    end: datetime | None
    figures: list[str]
    attempts: int
    token: UUID


_WAKE = """
    UPDATE analysis_requests SET run_after = NULL
    WHERE id IN (SELECT id FROM analysis_requests
                 WHERE status = 'queued' AND run_after IS NOT NULL AND run_after <= now()
                 ORDER BY run_after LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""


async def wake(connection: Connection) -> None:
    """Make requests claimable whose retry is due."""
    await connection.execute(_WAKE)


# circle: the devices with queued requests, from the one after `after` on and round to it. Each costs one index search,
# whatever its backlog. Devices with fewer running requests come first, then the order of the circle applies. Several
# are candidates, as other workers claim concurrently. Deleted devices are excluded by a lookup per candidate, which is
# cheaper than a join with all devices.
_CLAIM = """
    WITH RECURSIVE running AS MATERIALIZED (
        SELECT device_id, count(*) AS held FROM analysis_requests WHERE status = 'running' GROUP BY device_id
    ), circle (device_id, lap) AS (
        SELECT %(after)s::bigint, 0
        UNION ALL
        SELECT following.device_id, following.lap
        FROM circle CROSS JOIN LATERAL (
            (SELECT device_id, circle.lap FROM analysis_requests
             WHERE status = 'queued' AND run_after IS NULL AND device_id > circle.device_id
             ORDER BY device_id LIMIT 1)
            UNION ALL
            (SELECT device_id, 1 FROM analysis_requests
             WHERE circle.lap = 0 AND status = 'queued' AND run_after IS NULL
             ORDER BY device_id LIMIT 1)
            LIMIT 1
        ) AS following (device_id, lap)
        WHERE following.lap = 0 OR following.device_id <= %(after)s
    ), candidate AS (
        (SELECT device_id, 0 AS held FROM circle
         WHERE device_id NOT IN (SELECT device_id FROM running)
           AND (SELECT true FROM devices WHERE devices.id = circle.device_id)
         LIMIT %(candidates)s)
        UNION ALL
        SELECT device_id, held FROM running
        WHERE (SELECT true FROM devices WHERE devices.id = running.device_id)
    ), next AS MATERIALIZED (
        SELECT request.id
        FROM (SELECT device_id FROM candidate ORDER BY held, device_id <= %(after)s, device_id) AS device
        CROSS JOIN LATERAL (
            SELECT id FROM analysis_requests
            WHERE device_id = device.device_id AND status = 'queued' AND run_after IS NULL
            ORDER BY id LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) AS request
        LIMIT 1
    )
    UPDATE analysis_requests AS request
    SET status = 'running', joinable = false, attempts = attempts + 1, started_at = now(),
        lease_token = gen_random_uuid(), lease_until = now() + %(lease)s
    FROM next WHERE request.id = next.id
    RETURNING request.id, device_id, lower(period) AS start, upper(period) AS end, figures, attempts,
              lease_token AS token
"""


async def claim(connection: Connection, after: int = 0, lease: timedelta = LEASE) -> Claim | None:
    """Claim a queued request, fairly between devices, and the oldest of its device. None if there is none.

    `after`: the device of this worker's last claim. Other devices have their turn before it.
    """
    async with connection.cursor(row_factory=class_row(Claim)) as cursor:
        await cursor.execute(_CLAIM, {"after": after, "lease": lease, "candidates": CANDIDATES})
        return await cursor.fetchone()


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
    UPDATE analysis_requests
    SET status = 'queued', attempts = attempts - 1, lease_token = NULL, lease_until = NULL
    WHERE id IN (SELECT id FROM analysis_requests WHERE status = 'running' AND lease_token = ANY(%(tokens)s)
                 FOR UPDATE SKIP LOCKED)
"""


async def give_back(connection: Connection, tokens: Sequence[UUID]) -> None:
    """Queue the requests of a stopping worker again, as if they had not been claimed."""
    await connection.execute(_GIVE_BACK, {"tokens": list(tokens)})


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
