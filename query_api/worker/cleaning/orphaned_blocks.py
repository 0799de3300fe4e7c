"""Cleaner of the blocks of deleted devices whose rows a worker of an earlier version has removed.

That worker knows no blocks. It may run until the end of an upgrade, and finish a removal that this version has begun.
"""

from query_api.statistics.blocks.sealing.retiring import TABLES, delete_blocks, retire
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
# Citus refuses subqueries of the nodes' tables for each row of the coordinator. There, first the marks are read, then
# what is left of their devices, and one is locked.
_REMOVED = """
    SELECT coalesce(array_agg(device_id ORDER BY number), '{}'),
           min(device_id) FILTER (WHERE EXISTS (SELECT FROM sealed_devices WHERE device_id = mark.device_id))
    FROM deleted_devices AS mark WHERE removed_at IS NOT NULL
"""
_LEFT = f"""
    SELECT device_id FROM (
        {" UNION ALL ".join(f"SELECT device_id FROM {table} WHERE device_id = ANY(%(removed)s)" for table in TABLES)}
    ) AS stored LIMIT 1
"""  # noqa: S608  # constants
_LOCK = "SELECT device_id FROM deleted_devices WHERE device_id = %s FOR UPDATE SKIP LOCKED"


async def delete_some(connection: Connection, limit: int = BATCH_BLOCKS) -> int:
    """Delete some blocks of one such device, and its row of sealed_devices; return how many rows."""
    async with connection.transaction():
        taken = await (_take_on_nodes(connection) if await is_distributed(connection) else _take(connection))
        if taken is None:
            return 0
        return await retire(connection, taken) + await delete_blocks(connection, taken, limit)


async def _take(connection: Connection) -> int | None:
    row = await (await connection.execute(_TAKE)).fetchone()
    return None if row is None else row[0]


async def _take_on_nodes(connection: Connection) -> int | None:
    removed, sealed = await (await connection.execute(_REMOVED)).fetchone() or ([], None)
    if not removed:
        return None
    found = (
        (sealed,)
        if sealed is not None
        else await (await connection.execute(_LEFT.encode(), {"removed": removed})).fetchone()
    )
    locked = found and await (await connection.execute(_LOCK, found)).fetchone()
    return locked[0] if locked else None


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("blocks", delete_some)
