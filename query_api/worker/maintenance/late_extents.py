"""Widen the extents of devices with readings that a service of the previous version stored (ADR 28).

Such a service runs until its restart after `devicestat migrate`, and does not widen extents. A reading outside of the
extent of its device is not found. So the worker searches the months for such readings for a while after a migration.
"""

from datetime import timedelta

from shared.postgres.connections import Connection

SETTLED = timedelta(days=7)
"""Time after the latest migration in which services of the previous version may still run."""

_IS_SETTLED = "SELECT max(applied_at) < now() - %s FROM schema_migrations"
_MONTHS = """
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'readings'::regclass AND NOT inhdetachpending AND relname ~ '^readings_[0-9]{4}_[0-9]{2}$'
    ORDER BY relname
"""
_FIND = "SELECT find_extents_of_month(%s)"


async def widen_late(connection: Connection) -> int:
    """Widen extents that are too narrow, within SETTLED of a migration. Return the number of widened extents."""
    row = await (await connection.execute(_IS_SETTLED, (SETTLED,))).fetchone()
    if row is None or row[0]:
        return 0
    widened = 0
    for (month,) in await (await connection.execute(_MONTHS)).fetchall():
        found = await (await connection.execute(_FIND, (month,))).fetchone()
        assert found is not None, "the function returns one row"
        widened += found[0]
    return widened
