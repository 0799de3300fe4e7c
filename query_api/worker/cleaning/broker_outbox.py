"""Cleaner of the broker's outbox: keeps the newest row of each device.

A row has no maximum age: a token that was revoked while the broker was down would stay valid at the broker.
"""

from query_api.worker.cleaning.rounds import BATCH_ROWS, Cleaner
from shared.postgres.connections import Connection
from shared.settings import Settings

_DELETE = """
    DELETE FROM broker_outbox WHERE number IN (
        SELECT number FROM broker_outbox AS earlier
        WHERE EXISTS (SELECT FROM broker_outbox WHERE device_id = earlier.device_id AND number > earlier.number)
        ORDER BY number
        LIMIT %(limit)s)
"""


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("broker_outbox", delete_some)


async def delete_some(connection: Connection, limit: int = BATCH_ROWS) -> int:
    """Delete up to `limit` rows whose device has a newer row. Return the number of deleted rows."""
    return (await connection.execute(_DELETE, {"limit": limit})).rowcount
