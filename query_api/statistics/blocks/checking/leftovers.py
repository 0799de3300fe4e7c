"""Rows of the tables of blocks that no reader expects: blocks of unsealed time, and values without a block."""

from collections.abc import Sequence
from typing import LiteralString

from query_api.statistics.blocks.checking.problems import Problem
from query_api.statistics.blocks.layout import BASE
from query_api.statistics.blocks.sealing.sealed_device import SealedDevice, changed
from query_api.statistics.blocks.sealing.settling import uncover
from shared.postgres import arrays
from shared.postgres.arrays import LATEST, Moment
from shared.postgres.connections import Connection

# A device that is not in `devices` is being deleted, and its blocks with it.
_UNENROLLED = """
    SELECT min(first) FROM blocks WHERE device_id = %(device_id)s
    AND NOT EXISTS (SELECT 1 FROM sealed_devices WHERE device_id = %(device_id)s)
    AND EXISTS (SELECT 1 FROM devices WHERE id = %(device_id)s)
"""
_ENROL = "INSERT INTO sealed_devices (device_id) VALUES (%s) ON CONFLICT DO NOTHING"


async def check_enrolled(connection: Connection, device_id: int) -> list[Problem]:
    """Look for blocks of a device that has no row in sealed_devices."""
    async with arrays.cursor(connection) as cursor:
        (first,) = await (await cursor.execute(_UNENROLLED, {"device_id": device_id})).fetchone() or (None,)
    if first is None:
        return []
    return [Problem(device_id, first, "there are blocks, and no row in sealed_devices: their readings count twice")]


async def enrol(connection: Connection, device_id: int) -> None:
    """Add the row. All blocks of the device are then of unsealed time."""
    await connection.execute(_ENROL, (device_id,))


_BEYOND = """
    SELECT count(*), min(first) FROM blocks WHERE device_id = %s AND level IN (0, 1, 2, 3) AND first >= %s
"""
_ORPHANS: LiteralString = """
    FROM {table} AS stored WHERE device_id = %s AND NOT EXISTS (
        SELECT 1 FROM blocks AS block
        WHERE block.device_id = stored.device_id AND block.level = stored.level AND block.first = stored.first)
"""
_PARTS: Sequence[LiteralString] = ("block_values", "block_columns")


async def check_leftovers(connection: Connection, device: SealedDevice) -> list[Problem]:
    """Look for such rows of the device, in the caller's snapshot."""
    found = []
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_BEYOND, (device.device_id, Moment(device.sealed)))).fetchone()
        if row is not None and row[0]:
            text = f"blocks behind the time that is sealed, so that their readings count twice: {row[0]:,}"
            found.append(Problem(device.device_id, row[1], text))
        for table in _PARTS:
            query = f"SELECT count(*), min(first) {_ORPHANS.format(table=table)}"  # constants
            row = await (await cursor.execute(query.encode(), (device.device_id,))).fetchone()
            if row is not None and row[0]:
                found.append(Problem(device.device_id, row[1], f"rows of {table} without a block: {row[0]:,}"))
    return found


async def delete_leftovers(connection: Connection, device: SealedDevice) -> None:
    """Delete such rows of the device, in the caller's transaction. `device` is locked."""
    await uncover(connection, device.device_id, BASE, device.sealed, LATEST)
    async with arrays.cursor(connection) as cursor:
        await cursor.execute(_DELETE_BEYOND, (device.device_id, Moment(device.sealed)))
        for table in _PARTS:
            query = f"DELETE {_ORPHANS.format(table=table)}"  # constants
            await cursor.execute(query.encode(), (device.device_id,))
    await changed(connection, device.device_id)


_DELETE_BEYOND = "DELETE FROM blocks WHERE device_id = %s AND level IN (0, 1, 2, 3) AND first >= %s"
