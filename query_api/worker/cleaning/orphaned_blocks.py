"""Cleaner of the blocks of deleted devices whose rows a worker of an earlier version has removed.

That worker knows no blocks. It may run until the end of an upgrade, and finish a removal that this version has begun.
"""

from query_api.statistics.blocks.sealing.retiring import delete_blocks, retire
from query_api.worker.cleaning.rounds import Cleaner
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.settings import Settings

BATCH_BLOCKS = 20
"""Rows of blocks of one step. The values of a large block take 67 MB."""

# Also devices without a row of sealed_devices: a worker of this version may have begun the removal, with that row.
# Scalar subqueries: EXISTS may be planned as a hash of all blocks.
_TAKE = """
    SELECT device_id FROM deleted_devices AS mark
    WHERE removed_at IS NOT NULL AND coalesce(
        (SELECT device_id FROM sealed_devices WHERE device_id = mark.device_id),
        (SELECT device_id FROM late_readings WHERE device_id = mark.device_id LIMIT 1),
        (SELECT device_id FROM block_columns WHERE device_id = mark.device_id LIMIT 1),
        (SELECT device_id FROM block_values WHERE device_id = mark.device_id LIMIT 1),
        (SELECT device_id FROM blocks WHERE device_id = mark.device_id LIMIT 1)) IS NOT NULL
    ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
"""
# On a Citus cluster no worker of such a version can have run.
_TAKE_WITH_ROW = """
    SELECT device_id FROM deleted_devices AS mark
    WHERE removed_at IS NOT NULL AND EXISTS (SELECT FROM sealed_devices WHERE device_id = mark.device_id)
    ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
"""


async def delete_some(connection: Connection, limit: int = BATCH_BLOCKS) -> int:
    """Delete some blocks of one such device, and its row of sealed_devices; return how many rows."""
    statement = _TAKE_WITH_ROW if await is_distributed(connection) else _TAKE
    async with connection.transaction():
        taken = await (await connection.execute(statement)).fetchone()
        if taken is None:
            return 0
        return await retire(connection, taken[0]) + await delete_blocks(connection, taken[0], limit)


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("blocks", delete_some)
