"""Connections that wait for a lock in the test's database. Other tests may use the same server."""

from typing import Any

import psycopg

_WAITING = """
    SELECT pid FROM pg_locks
    WHERE NOT granted AND (%(table)s::text IS NULL OR relation = to_regclass(%(table)s))
      AND pid IN (SELECT pid FROM pg_locks AS own JOIN pg_database ON pg_database.oid = own.database
                  WHERE datname = current_database())
"""


async def waiting(connection: psycopg.AsyncConnection[Any], table: str | None = None) -> list[int]:
    """Return the process ids of the connections that wait. `table`: those that wait for it; None: for any lock."""
    cursor = await connection.execute(_WAITING, {"table": table})
    return [pid for (pid,) in await cursor.fetchall()]
