"""What the worker keeps in order besides the queue: the months of readings, made ahead and dropped by age.

Any number of workers may do it at once: making is idempotent, and dropping is done by whoever has its lock.
"""

import asyncio
from datetime import timedelta

from psycopg import sql
from psycopg.errors import LockNotAvailable

from shared.postgres.connections import Connection

MONTHS_AHEAD = 3
MAX_EMPTY_DROPPED = 24
"""Empty months that one round drops at most."""
EMPTY_PAUSE_S = 0.5
"""After each of them: readers and writers that waited behind its lock go on."""
SLACK = timedelta(days=1)
"""A month is dropped so much later than RETENTION says. A reading's age is judged at its receipt: one that is just
young enough then, and waits to be stored while the database is away, still finds its month, and stays for a while."""

_MAKE_MONTHS = """
    SELECT ensure_readings_partition(date_trunc('month', now(), 'UTC') + make_interval(months => ahead))
    FROM generate_series(0, %s) AS ahead
"""


async def make_partitions(connection: Connection) -> None:
    """Makes the partitions of this month and the next ones, where they are missing."""
    await connection.execute(_MAKE_MONTHS, (MONTHS_AHEAD,))


_LOCK = "SELECT pg_try_advisory_lock(hashtext('devicestat'), hashtext('retention'))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtext('devicestat'), hashtext('retention'))"
# By their names, and not as the partitions that readings has: one that was detached by a worker which then
# died is found as well. inhdetachpending: it died in the middle of that.
_ENDED_MONTHS = """
    SELECT relname, inhrelid IS NOT NULL, coalesce(inhdetachpending, false)
    FROM pg_class LEFT JOIN pg_inherits ON inhrelid = pg_class.oid
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
      AND CASE WHEN relname ~ '^readings_[0-9]{4}_[0-9]{2}$'
               THEN to_timestamp(right(relname, 7), 'YYYY_MM') + interval '1 month' <= now() - %s
          END
    ORDER BY relname
"""
# CONCURRENTLY: readers and writers of the other months go on, where DROP of a partition would lock them out.
_DETACH = "ALTER TABLE readings DETACH PARTITION {} CONCURRENTLY"
_FINALIZE = "ALTER TABLE readings DETACH PARTITION {} FINALIZE"
_DROP = "SELECT drop_readings_month(%s)"
# Only the owner of readings detaches: a worker with a role of its own becomes it for so long (ADR 24).
_BECOME_OWNER = """
    SELECT set_config('role', pg_get_userbyid(relowner), false) FROM pg_class WHERE oid = 'readings'::regclass
"""
_BECOME_ONESELF = "RESET ROLE"


async def drop_partitions(connection: Connection, retention: timedelta) -> list[str]:
    """Drops the months (UTC) that ended longer ago than `retention` and SLACK; returns their tables' names."""
    (ours,) = await (await connection.execute(_LOCK)).fetchone() or (False,)
    if not ours:
        return []
    try:
        months = await (await connection.execute(_ENDED_MONTHS, (retention + SLACK,))).fetchall()
        for name, attached, pending in months:
            if attached:
                await _detach(connection, sql.SQL(_FINALIZE if pending else _DETACH).format(sql.Identifier(name)))
            await connection.execute(_DROP, (name,))
    finally:
        await connection.execute(_UNLOCK)
    return [name for name, _, _ in months]


_EMPTY_MONTHS = "SELECT empty_readings_months()"
_DROP_EMPTY = "SELECT drop_empty_readings_month(%s)"


async def drop_empty_partitions(connection: Connection, pause_s: float = EMPTY_PAUSE_S) -> list[str]:
    """Drop some of the months that have ended and are empty; return their tables' names.

    A writer that remembers such a month makes it again when it has a reading for it. Where the lock cannot be had at
    once, as beside a long export, the next round tries again.
    """
    dropped: list[str] = []
    for (month,) in await (await connection.execute(_EMPTY_MONTHS)).fetchall():
        if len(dropped) == MAX_EMPTY_DROPPED:
            break
        try:
            (gone,) = await (await connection.execute(_DROP_EMPTY, (month,))).fetchone() or (False,)
        except LockNotAvailable:
            break
        if gone:
            dropped.append(month)
            await asyncio.sleep(pause_s)
    return dropped


async def _detach(connection: Connection, statement: sql.Composed) -> None:
    await connection.execute(_BECOME_OWNER)
    try:
        await connection.execute(statement)
    finally:
        await connection.execute(_BECOME_ONESELF)
