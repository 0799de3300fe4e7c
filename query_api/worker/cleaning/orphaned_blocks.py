"""Cleaner of the blocks of deleted devices whose rows a worker of an earlier version has removed.

That worker knows no blocks. It may run until the end of an upgrade.
"""

from query_api.statistics.blocks.sealing.retiring import delete_blocks, retire
from query_api.worker.cleaning.rounds import Cleaner
from shared.postgres.connections import Connection
from shared.settings import Settings

BATCH_BLOCKS = 20
"""Rows of blocks of one step. The values of a large block take 67 MB."""

_TAKE = """
    SELECT device_id FROM sealed_devices AS sealed
    WHERE device_id IN (SELECT device_id FROM deleted_devices WHERE removed_at IS NOT NULL)
    LIMIT 1 FOR UPDATE OF sealed SKIP LOCKED
"""


async def delete_some(connection: Connection, limit: int = BATCH_BLOCKS) -> int:
    """Delete some blocks of one such device, and at last its row of sealed_devices; return how many rows."""
    async with connection.transaction():
        taken = await (await connection.execute(_TAKE)).fetchone()
        if taken is None:
            return 0
        return await delete_blocks(connection, taken[0], limit) or await retire(connection, taken[0])


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("blocks", delete_some)
