"""Journals of ingestors that have stored nothing for 90 days: the broker has ended their sessions long before.

The journal of a session that is in use bounds itself (ADR 3).
"""

from query_api.worker.cleaning.rounds import BATCH_ROWS, Cleaner
from shared.postgres.connections import Connection
from shared.settings import Settings

_EXPIRE = "SELECT expire_journals(%s)"


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("ingest_journal", delete_some)


async def delete_some(connection: Connection, limit: int = BATCH_ROWS) -> int:
    """Delete up to `limit` entries of sessions that are long over; return how many."""
    row = await (await connection.execute(_EXPIRE, (limit,))).fetchone()
    assert row is not None, "the function gives one row"
    return int(row[0])
