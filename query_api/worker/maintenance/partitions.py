"""Create the monthly partitions of readings in advance, and drop old and empty ones.

Any number of workers may run it concurrently: creating is idempotent, and a lock serializes dropping.
"""

import asyncio
from datetime import timedelta

from psycopg import sql
from psycopg.errors import LockNotAvailable

from query_api.statistics.blocks.sealing.retiring import delete_month
from query_api.worker.maintenance.duty import alone
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed

MONTHS_AHEAD = 3
MAX_EMPTY_DROPPED = 24
"""Most empty months that one run drops."""
EMPTY_PAUSE_S = 0.5
"""Pause after each of them, for readers and writers that wait behind its lock."""
DETACH_TRIES, DETACH_PAUSE_S = 20, 3.0
"""Attempts to detach a month on a Citus cluster, which readers and writers are kept from for a moment each."""
SLACK = timedelta(days=1)
"""Delay of dropping a month after RETENTION. A reading is accepted by its age at receipt. If it is stored later, after
an outage of the database, it still finds its month."""

_MAKE_MONTHS = """
    SELECT ensure_readings_partition(date_trunc('month', now(), 'UTC') + make_interval(months => ahead))
    FROM generate_series(0, %s) AS ahead
"""


async def make_partitions(connection: Connection) -> None:
    """Create the missing partitions of the current month and the next MONTHS_AHEAD."""
    await connection.execute(_MAKE_MONTHS, (MONTHS_AHEAD,))


# Found by name, as a worker may have died after it detached a partition. inhdetachpending: it died during the DETACH.
_ENDED_MONTHS = """
    SELECT relname, inhrelid IS NOT NULL, coalesce(inhdetachpending, false)
    FROM pg_class LEFT JOIN pg_inherits ON inhrelid = pg_class.oid
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
      AND CASE WHEN relname ~ '^readings_[0-9]{4}_[0-9]{2}$'
               THEN to_timestamp(right(relname, 7), 'YYYY_MM') + interval '1 month' <= now() - %s
          END
    ORDER BY relname
"""
# From the DETACH on, analyses do not use the blocks of the month. They are deleted in steps, and the last ones with it.
_RETIRE = "INSERT INTO retiring_months (name) VALUES (%s) ON CONFLICT DO NOTHING"
# CONCURRENTLY, as dropping an attached partition would block readers and writers of other months.
_DETACH = "ALTER TABLE readings DETACH PARTITION {} CONCURRENTLY"
# Citus has no CONCURRENTLY. This waits for all readers and writers, and they wait behind it: so not for long.
_DETACH_ON_CLUSTER = "SELECT detach_readings_month(%s)"
_FINALIZE = "ALTER TABLE readings DETACH PARTITION {} FINALIZE"
_DROP = "SELECT drop_readings_month(%s)"
# Only the owner of readings may detach. A worker with another role takes the role of the owner meanwhile (ADR 24).
_BECOME_OWNER = """
    SELECT set_config('role', pg_get_userbyid(relowner), false) FROM pg_class WHERE oid = 'readings'::regclass
"""
_BECOME_ONESELF = "RESET ROLE"


async def drop_partitions(connection: Connection, retention: timedelta) -> list[str]:
    """Drop the months (UTC) that ended longer ago than `retention` plus SLACK. Return the names of their tables.

    A month whose lock is not available in time is left to the next run.
    """
    dropped: list[str] = []
    async with alone(connection, "retention") as is_alone:
        if is_alone:
            for name, attached, pending in await _ended_months(connection, retention):
                await connection.execute(_RETIRE, (name,))
                try:
                    if attached:
                        await _detach(connection, name, pending=pending)
                    await delete_month(connection, name)
                    await connection.execute(_DROP, (name,))
                except LockNotAvailable:
                    break
                dropped.append(name)
    return dropped


async def _ended_months(connection: Connection, retention: timedelta) -> list[tuple[str, bool, bool]]:
    return await (await connection.execute(_ENDED_MONTHS, (retention + SLACK,))).fetchall()


_EMPTY_MONTHS = "SELECT empty_readings_months()"
_DROP_EMPTY = "SELECT drop_empty_readings_month(%s)"


async def drop_empty_partitions(connection: Connection, pause_s: float = EMPTY_PAUSE_S) -> list[str]:
    """Drop some of the empty months in the past. Return the names of their tables.

    A writer creates a dropped month again when it has a reading for it. If the lock is not available immediately, such
    as during a long export, the next run retries.
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


async def _detach(connection: Connection, name: str, *, pending: bool) -> None:
    """Raises LockNotAvailable."""
    if await is_distributed(connection):
        await _detach_on_cluster(connection, name)
        return
    await connection.execute(_BECOME_OWNER)
    try:
        await connection.execute(sql.SQL(_FINALIZE if pending else _DETACH).format(sql.Identifier(name)))
    finally:
        await connection.execute(_BECOME_ONESELF)


async def _detach_on_cluster(connection: Connection, name: str) -> None:
    for left in reversed(range(DETACH_TRIES)):
        try:
            await connection.execute(_DETACH_ON_CLUSTER, (name,))
        except LockNotAvailable:
            if not left:
                raise
            await asyncio.sleep(DETACH_PAUSE_S)
        else:
            return
