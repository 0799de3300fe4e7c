"""The broker's outbox: one row for each device is enough, and the newest one stays until the broker has it.

A row is never deleted for its age: a token that was revoked while the broker was away would stay valid there.
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
    """Delete up to `limit` rows whose device has a newer one; return how many."""
    return (await connection.execute(_DELETE, {"limit": limit})).rowcount
