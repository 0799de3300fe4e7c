"""Deletion of the blocks of a deleted device. `drop_readings_month` of the database deletes those of a month."""

from shared.postgres.connections import Connection

_UNSEAL = b"DELETE FROM sealed_devices WHERE device_id = %s"
LATE_AT_ONCE = 10_000
"""Late readings that one step deletes. Their rows are small, unlike those of blocks."""
_DELETE_LATE, *_DELETE = (
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
    """Delete LATE_AT_ONCE late readings, or up to `limit` rows of one table of blocks; return how many rows."""
    for statement, most in ((_DELETE_LATE, LATE_AT_ONCE), *((each, limit) for each in _DELETE)):
        if deleted := (await connection.execute(statement, {"device_id": device_id, "limit": most})).rowcount:
            return deleted
    return 0
