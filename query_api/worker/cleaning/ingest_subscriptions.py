"""Cleaner of topic filters: deletes those of sessions whose journal has expired."""

from query_api.worker.cleaning.rounds import BATCH_ROWS, Cleaner
from shared.postgres.connections import Connection
from shared.settings import Settings

_EXPIRE = "SELECT expire_subscriptions(%s)"


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("ingest_subscriptions", delete_some)


async def delete_some(connection: Connection, limit: int = BATCH_ROWS) -> int:
    """Delete up to `limit` rows of ended sessions. Return the number of deleted rows."""
    row = await (await connection.execute(_EXPIRE, (limit,))).fetchone()
    assert row is not None, "the function returns one row"
    return int(row[0])
