"""Cleaner of access keys: deletes them 400 days after they were revoked or expired."""

from query_api.worker.cleaning.rounds import BATCH_ROWS, Cleaner
from shared.postgres.connections import Connection
from shared.settings import Settings

_EXPIRE = "SELECT expire_access_keys(%s)"


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("access_keys", delete_some)


async def delete_some(connection: Connection, limit: int = BATCH_ROWS) -> int:
    """Delete up to `limit` keys that are past their retention. Return the number of deleted rows."""
    row = await (await connection.execute(_EXPIRE, (limit,))).fetchone()
    assert row is not None, "the function returns one row"
    return int(row[0])
