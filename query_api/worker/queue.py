"""The queue of analyses, as a worker uses it: each function is one statement, and so one transaction.

queued ──claim──▶ running ──finish──▶ done
  ▲                  │ fail: attempts left, later; or the last one ──▶ failed
  └── give_back, fail, reap: its lease ran out

A worker that has claimed an analysis holds a lease on it, under a token. Whatever it does to it names the
token, and does nothing if another worker has taken over, or someone has cancelled it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from psycopg.rows import class_row

from shared.analysis import Analysis, Figures
from shared.database import Connection

CHANNEL = "analysis_requests"
"""NOTIFY on it says that something was queued."""
LEASE = timedelta(seconds=30)
MAX_ATTEMPTS = 5
RETRY_BASE = timedelta(seconds=2)
RETRY_CAP = timedelta(minutes=5)
"""The wait after a failure doubles from RETRY_BASE, and is between half of that and all of it: with five
attempts the last is at most half a minute of waiting after the first."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """An analysis that this worker holds."""

    id: int
    device_id: int
    start: datetime | None
    end: datetime | None
    attempts: int
    token: UUID


_CLAIM = """
    WITH next AS MATERIALIZED (
        SELECT id FROM analysis_requests
        WHERE status = 'queued' AND run_after <= now()
        ORDER BY run_after, id
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    UPDATE analysis_requests AS request
    SET status = 'running', attempts = attempts + 1, started_at = now(),
        lease_token = gen_random_uuid(), lease_until = now() + %(lease)s
    FROM next WHERE request.id = next.id
    RETURNING request.id, device_id, lower(period) AS start, upper(period) AS end, attempts,
              lease_token AS token
"""


async def claim(connection: Connection, limit: int) -> list[Claim]:
    """Takes up to so many of those that wait, the longest first, which no other worker is taking."""
    async with connection.cursor(row_factory=class_row(Claim)) as cursor:
        await cursor.execute(_CLAIM, {"limit": limit, "lease": LEASE})
        return await cursor.fetchall()


_RENEW = """
    UPDATE analysis_requests SET lease_until = now() + %(lease)s
    WHERE status = 'running' AND lease_token = ANY(%(tokens)s)
    RETURNING lease_token
"""


async def renew(connection: Connection, tokens: Sequence[UUID]) -> set[UUID]:
    """Prolongs the leases; returns those that are still held."""
    cursor = await connection.execute(_RENEW, {"lease": LEASE, "tokens": list(tokens)})
    return {row[0] for row in await cursor.fetchall()}


_FINISH = """
    WITH done AS (
        UPDATE analysis_requests
        SET status = 'done', finished_at = now(), lease_token = NULL, lease_until = NULL
        WHERE id = %(id)s AND status = 'running' AND lease_token = %(token)s
        RETURNING id, device_id, lower(period) AS start, upper(period) AS "end"
    )
    INSERT INTO analysis_results (request_id, device_id, "start", "end", x, y, z)
    SELECT id, device_id, start, "end", %(x)s::jsonb, %(y)s::jsonb, %(z)s::jsonb FROM done
"""


async def finish(connection: Connection, held: Claim, found: Analysis) -> bool:
    """Writes the result and ends the request; False, and nothing written, if it is no longer held."""
    parameters = {
        "id": held.id, "token": held.token,
        "x": _json(found.x), "y": _json(found.y), "z": _json(found.z),
    }  # fmt: skip
    return (await connection.execute(_FINISH, parameters)).rowcount == 1


def _json(figures: Figures) -> str:
    return msgspec.json.encode(figures).decode()


_FAIL = """
    UPDATE analysis_requests
    SET status = CASE WHEN attempts < %(most)s THEN 'queued' ELSE 'failed' END,
        finished_at = CASE WHEN attempts < %(most)s THEN NULL ELSE now() END,
        run_after = now() + (0.5 + random() / 2) * least(%(cap)s, %(base)s * 2 ^ (attempts - 1)),
        last_error = %(error)s, lease_token = NULL, lease_until = NULL
    WHERE id = %(id)s AND status = 'running' AND lease_token = %(token)s
    RETURNING status
"""


async def fail(connection: Connection, held: Claim, error: str) -> str | None:
    """Puts it back for later, or ends it after the last attempt: "queued" or "failed"; None if not held."""
    parameters = {
        "id": held.id, "token": held.token, "error": error,
        "most": MAX_ATTEMPTS, "base": RETRY_BASE, "cap": RETRY_CAP,
    }  # fmt: skip
    row = await (await connection.execute(_FAIL, parameters)).fetchone()
    return None if row is None else str(row[0])


_GIVE_BACK = """
    UPDATE analysis_requests
    SET status = 'queued', attempts = attempts - 1, lease_token = NULL, lease_until = NULL
    WHERE status = 'running' AND lease_token = ANY(%(tokens)s)
"""


async def give_back(connection: Connection, tokens: Sequence[UUID]) -> None:
    """Puts back what a worker that stops has not finished, as if it had not been claimed."""
    await connection.execute(_GIVE_BACK, {"tokens": list(tokens)})


# An analysis that brings its worker down must end too: a lost lease counts as an attempt.
_REAP = """
    UPDATE analysis_requests
    SET status = CASE WHEN attempts < %(most)s THEN 'queued' ELSE 'failed' END,
        finished_at = CASE WHEN attempts < %(most)s THEN NULL ELSE now() END,
        last_error = 'its worker was not heard of until the lease ran out', run_after = now(),
        lease_token = NULL, lease_until = NULL
    WHERE id IN (SELECT id FROM analysis_requests WHERE status = 'running' AND lease_until < now()
                 FOR UPDATE SKIP LOCKED)
    RETURNING id, status
"""


async def reap(connection: Connection) -> dict[int, str]:
    """Takes those whose lease has run out from their workers: their ids, with "queued" or "failed"."""
    cursor = await connection.execute(_REAP, {"most": MAX_ATTEMPTS})
    return dict(await cursor.fetchall())


_LENGTH = "SELECT count(*) FROM analysis_requests WHERE status = 'queued'"


async def length(connection: Connection) -> int:
    """How many wait."""
    row = await (await connection.execute(_LENGTH)).fetchone()
    assert row is not None, "an aggregate has one row"
    return int(row[0])


_WAS_CANCELLED = "SELECT status = 'cancelled' FROM analysis_requests WHERE id = %s"


async def was_cancelled(connection: Connection, request_id: int) -> bool:
    """Whether someone has cancelled it, as opposed to another worker having taken over."""
    row = await (await connection.execute(_WAS_CANCELLED, (request_id,))).fetchone()
    return row is None or bool(row[0])
