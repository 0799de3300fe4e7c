"""Callbacks: whoever asked for it is told that an analysis has ended, at least once.

waiting ──the request ends──▶ due ──claim──▶ sent: a 2xx ──▶ delivered
                               ▲                │ else: attempts left, later; or the last one ──▶ failed
                               └────────────────┘ or nothing was heard of it: its lease ran out

A row is due from the transaction on that ends its request. Who claims one moves the moment at which it is due
by a lease: a worker that dies in the middle leaves it to the next. The receiver tells a repeat by webhook-id.
"""

from datetime import timedelta
from uuid import UUID

import msgspec
from psycopg.rows import class_row

from shared.postgres.connections import Connection

LEASE = timedelta(minutes=1)
"""Several times what a call may take."""
MAX_PER_HOST = 3
"""Calls that all workers make at a time to one host: one that is slow delays the others' calls by no more."""
MAX_ATTEMPTS = 8
RETRY_BASE = timedelta(seconds=30)
RETRY_FACTOR = 4
RETRY_CAP = timedelta(hours=2)
"""The wait after a failure grows by the factor from RETRY_BASE, and is between half of that and all of it: with eight
attempts the last is between three and seven hours after the first."""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A callback that this worker is to make."""

    id: int
    request_id: int
    url: str
    host: str
    message_id: UUID
    attempts: int
    token: UUID


# As devices do in the queue of analyses (queue.py): the hosts that are due stand in a circle, each one step in the
# index, and the one after the host that was called last has the first turn. held: calls that some worker is making.
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
    """Take up to `limit` of those that are due, of each host no more than MAX_PER_HOST less what is being sent to it.

    `after`: the host that was called last: those after it in the alphabet have their turn first.
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
    """It is not made again."""
    await connection.execute(_DELIVERED, {"id": due.id, "token": due.token})


_FAIL = """
    UPDATE analysis_callbacks
    SET status = CASE WHEN attempts < %(most)s THEN 'waiting' ELSE 'failed' END,
        due_at = CASE WHEN attempts < %(most)s
                      THEN now() + (0.5 + random() / 2) * least(%(cap)s, %(base)s * %(factor)s ^ (attempts - 1)) END,
        last_error = %(error)s, token = NULL
    WHERE id = %(id)s AND token = %(token)s
    RETURNING status
"""


async def fail(connection: Connection, due: Due, error: str) -> str | None:
    """Puts it off, or ends it after the last attempt: "waiting" or "failed"; None if another worker has it."""
    parameters = {
        "id": due.id, "token": due.token, "error": error,
        "most": MAX_ATTEMPTS, "base": RETRY_BASE, "factor": RETRY_FACTOR, "cap": RETRY_CAP,
    }  # fmt: skip
    row = await (await connection.execute(_FAIL, parameters)).fetchone()
    return None if row is None else str(row[0])
