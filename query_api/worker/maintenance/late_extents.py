"""Widens the extents of devices whose readings a service of the version before has stored (ADR 28).

Such a service goes on between `devicestat migrate` and its restart, and does not widen extents. A device's reading
outside of its extent is hidden. So the worker looks through the months for as long as that may happen.
"""

from datetime import timedelta

from shared.postgres.connections import Connection

SETTLED = timedelta(days=7)
"""After the latest migration no service of the version before is expected to run."""

_IS_SETTLED = "SELECT max(applied_at) < now() - %s FROM schema_migrations"
_MONTHS = """
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'readings'::regclass AND NOT inhdetachpending AND relname ~ '^readings_[0-9]{4}_[0-9]{2}$'
    ORDER BY relname
"""
_FIND = "SELECT find_extents_of_month(%s)"


async def widen_late(connection: Connection) -> int:
    """Widen what is too narrow, and return how many extents that were. Within SETTLED of a migration; later 0."""
    row = await (await connection.execute(_IS_SETTLED, (SETTLED,))).fetchone()
    if row is None or row[0]:
        return 0
    widened = 0
    for (month,) in await (await connection.execute(_MONTHS)).fetchall():
        found = await (await connection.execute(_FIND, (month,))).fetchone()
        assert found is not None, "the function gives one row"
        widened += found[0]
    return widened
