"""Deletion of blocks: those of a month, before retention drops it, and those of a deleted device."""

from collections.abc import Sequence

from shared.postgres.connections import Connection

_MONTH = b"""
    WITH month AS (
        SELECT to_date(right(%(table)s, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC' AS starts,
               (to_date(right(%(table)s, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' AS ends
    ), columns AS (
        DELETE FROM block_columns USING month WHERE first >= starts AND first < ends
    ), values AS (
        DELETE FROM block_values USING month WHERE first >= starts AND first < ends
    ), late AS (
        DELETE FROM late_readings USING month WHERE recorded_at >= starts AND recorded_at < ends
    )
    DELETE FROM blocks USING month WHERE first >= starts AND first < ends
"""


async def retire_month(connection: Connection, table: str) -> None:
    """Delete the blocks and late readings of a month. `table`: its table, such as readings_2026_01.

    The caller holds the lock of retention, so that no new blocks are built of it.
    """
    await connection.execute(_MONTH, {"table": table})


_UNSEAL = b"DELETE FROM sealed_devices WHERE device_id = %s"
_DELETE: Sequence[bytes] = tuple(
    f"""
        DELETE FROM {table}
        WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE device_id = %(device_id)s LIMIT %(limit)s))
    """.encode()  # noqa: S608  # constants
    for table in ("late_readings", "block_columns", "block_values", "blocks")
)


async def retire_device(connection: Connection, device_id: int, limit: int) -> int:
    """Delete some blocks and late readings of a deleted device, in the caller's transaction; return how many rows.

    The row of sealed_devices goes first: that waits for a worker that seals the device, and stops every later one.
    """
    await retire(connection, device_id)
    return await delete_blocks(connection, device_id, limit)


async def retire(connection: Connection, device_id: int) -> int:
    """Delete the device's row of sealed_devices; return the number of rows."""
    return (await connection.execute(_UNSEAL, (device_id,))).rowcount


async def delete_blocks(connection: Connection, device_id: int, limit: int) -> int:
    """Delete up to `limit` rows of one table of blocks, or late readings; return how many rows."""
    for statement in _DELETE:
        if deleted := (await connection.execute(statement, {"device_id": device_id, "limit": limit})).rowcount:
            return deleted
    return 0
