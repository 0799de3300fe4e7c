"""The readings of devices that were deleted are removed, some at a time (ADR 16).

Any number of workers may do it at once: each deletion is one worker's at a time, and what one leaves another goes on
with.
"""

from shared.database import Connection

AT_ONCE = 10_000
"""Readings of one transaction, besides those of the same moment as the last of them."""


async def remove_all(connection: Connection) -> None:
    """Removes all readings of all deleted devices that no other worker is at."""
    while await remove_some(connection) is not None:
        pass


_TAKE = """
    SELECT number, device_id FROM deleted_devices WHERE removed_at IS NULL
    ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
"""
# By the index, up to the moment of the last of so many.
_REMOVE = """
    DELETE FROM readings
    WHERE device_id = %(device_id)s
      AND recorded_at <= coalesce(
          (SELECT recorded_at FROM readings WHERE device_id = %(device_id)s
           ORDER BY recorded_at OFFSET %(others)s LIMIT 1), 'infinity')
"""
_DONE = "UPDATE deleted_devices SET removed_at = now() WHERE number = %s"
_FORGET = "DELETE FROM device_extents WHERE device_id = %s"


async def remove_some(connection: Connection) -> int | None:
    """Removes some readings of a deleted device, and returns how many; None when there is nothing left to remove."""
    async with connection.transaction():
        taken = await (await connection.execute(_TAKE)).fetchone()
        if taken is None:
            return None
        number, device_id = taken
        removed = (await connection.execute(_REMOVE, {"device_id": device_id, "others": AT_ONCE - 1})).rowcount
        if removed < AT_ONCE:
            await connection.execute(_DONE, (number,))
            await connection.execute(_FORGET, (device_id,))
    return removed
