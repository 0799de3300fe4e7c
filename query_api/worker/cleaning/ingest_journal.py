"""Cleaner of journals: deletes those of sessions without a stored message for 90 days, which the broker has ended.

The journal of a session in use is bounded by its ingestor (ADR 3).
"""

from query_api.worker.cleaning.rounds import BATCH_ROWS, Cleaner
from shared.postgres.connections import Connection
from shared.settings import Settings

_EXPIRE = "SELECT expire_journals(%s)"


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("ingest_journal", delete_some)


async def delete_some(connection: Connection, limit: int = BATCH_ROWS) -> int:
    """Delete up to `limit` entries of ended sessions. Return the number of deleted rows."""
    row = await (await connection.execute(_EXPIRE, (limit,))).fetchone()
    assert row is not None, "the function returns one row"
    return int(row[0])
