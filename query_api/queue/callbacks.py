"""Callbacks, which notify a receiver at least once that an analysis has finished.

waiting ──the request ends──▶ due ──claim──▶ sent: a 2xx ──▶ delivered
                               ▲                │ else: a retry; or the last attempt ──▶ failed
                               └────────────────┘ or its lease expired

The transaction that ends a request makes its callbacks due. A claim delays the due time by a lease, so that another
worker continues if this one dies. The receiver recognizes a repeat by webhook-id.
"""

from datetime import timedelta
from uuid import UUID

import msgspec
from psycopg.rows import class_row

from query_api.queue.retries import Retries
from shared.postgres.connections import Connection

LEASE = timedelta(minutes=1)
"""Several times the duration of a call."""
MAX_PER_HOST = 3
"""Concurrent calls of all workers to one host, so that a slow host delays calls to other hosts little."""
RETRIES = Retries(max_attempts=8, base=timedelta(seconds=30), factor=4, cap=timedelta(hours=2))
"""The last of eight attempts is between three and seven hours after the first."""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A callback that this worker has claimed."""

    id: int
    request_id: int
    url: str
    host: str
    message_id: UUID
    attempts: int
    token: UUID


# Round robin over hosts, as claims.py does over devices: each host with due callbacks costs one index search, and the
# host after the last one called comes first. held: calls in progress in any worker.
_CLAIM = """
    WITH RECURSIVE circle (host, lap, position) AS (
        SELECT %(after)s::text COLLATE "C", 0, 0
        UNION ALL
        SELECT following.host, following.lap, position + 1
        FROM circle CROSS JOIN LATERAL (
            (SELECT host, circle.lap FROM analysis_callbacks
             WHERE status = 'waiting' AND due_at IS NOT NULL AND host > circle.host ORDER BY host LIMIT 1)
            UNION ALL
            (SELECT host, 1 FROM analysis_callbacks
             WHERE circle.lap = 0 AND status = 'waiting' AND due_at IS NOT NULL ORDER BY host LIMIT 1)
            LIMIT 1
        ) AS following (host, lap)
        WHERE following.lap = 0 OR following.host <= %(after)s
    ), turn AS MATERIALIZED (
        SELECT due.id, position
        FROM (SELECT host, position FROM circle WHERE position > 0 ORDER BY position) AS receiver
        CROSS JOIN LATERAL (
            SELECT count(*) AS held FROM analysis_callbacks
            WHERE host = receiver.host AND token IS NOT NULL AND due_at > now()
        ) AS busy
        CROSS JOIN LATERAL (
            SELECT id FROM analysis_callbacks
            WHERE host = receiver.host AND status = 'waiting' AND due_at IS NOT NULL AND due_at <= now()
            ORDER BY due_at LIMIT greatest(%(each)s - busy.held, 0) FOR UPDATE SKIP LOCKED
        ) AS due
        LIMIT %(limit)s
    ), taken AS (
        UPDATE analysis_callbacks AS callback
        SET due_at = now() + %(lease)s, attempts = attempts + 1, token = gen_random_uuid()
        FROM turn WHERE callback.id = turn.id
        RETURNING callback.id, request_id, url, host, message_id, attempts, token, position
    )
    SELECT id, request_id, url, host, message_id, attempts, token FROM taken ORDER BY position, id
"""


async def claim(connection: Connection, limit: int, after: str = "") -> list[Due]:
    """Claim up to `limit` due callbacks, with at most MAX_PER_HOST in progress for each host.

    `after`: the host that was called last. Hosts after it in the alphabet come first.
    """
    parameters = {"lease": LEASE, "limit": limit, "after": after, "each": MAX_PER_HOST}
    async with connection.cursor(row_factory=class_row(Due)) as cursor:
        await cursor.execute(_CLAIM, parameters)
        return await cursor.fetchall()


_DELIVERED = """
    UPDATE analysis_callbacks SET status = 'delivered', due_at = NULL, token = NULL
    WHERE id = %(id)s AND token = %(token)s
"""


async def delivered(connection: Connection, due: Due) -> None:
    """End a callback that was delivered."""
    await connection.execute(_DELIVERED, {"id": due.id, "token": due.token})


_FAIL = """
    UPDATE analysis_callbacks
    SET status = CASE WHEN attempts < %(max_attempts)s THEN 'waiting' ELSE 'failed' END,
        due_at = CASE WHEN attempts < %(max_attempts)s
                      THEN now() + (0.5 + random() / 2) * least(%(cap)s, %(base)s * %(factor)s ^ (attempts - 1)) END,
        last_error = %(error)s, token = NULL
    WHERE id = %(id)s AND token = %(token)s
    RETURNING status
"""


async def fail(connection: Connection, due: Due, error: str, retries: Retries = RETRIES) -> str | None:
    """Delay the callback for a retry, or end it after the last attempt.

    Returns "waiting" or "failed"; None if the claim is lost.
    """
    parameters = {"id": due.id, "token": due.token, "error": error, **msgspec.structs.asdict(retries)}
    row = await (await connection.execute(_FAIL, parameters)).fetchone()
    return None if row is None else str(row[0])
