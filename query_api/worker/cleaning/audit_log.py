"""Cleaner of the audit log: deletes entries at the age of AUDIT_KEEP, and adds an entry with their number.

The worker's role has no right to delete entries. A function of the database deletes them, and refuses ages below 30
days.
"""

from datetime import timedelta
from functools import partial

from query_api.worker.cleaning.rounds import BATCH_ROWS, Cleaner
from shared.postgres.connections import Connection
from shared.settings import Settings

_EXPIRE = "SELECT expire_audit_entries(%(age)s, %(limit)s)"


def cleaner(settings: Settings) -> Cleaner | None:
    """Return the cleaner, or None if AUDIT_KEEP is none."""
    age = settings.audit_keep
    return None if age is None else Cleaner("audit_log", partial(delete_some, age=age))


async def delete_some(connection: Connection, age: timedelta, limit: int = BATCH_ROWS) -> int:
    """Delete up to `limit` entries older than `age`, if one is a day older than that. Return the number deleted."""
    row = await (await connection.execute(_EXPIRE, {"age": age, "limit": limit})).fetchone()
    assert row is not None, "the function returns one row"
    return int(row[0])
