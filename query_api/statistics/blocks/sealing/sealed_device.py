"""A transaction that changes the blocks of one device."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import LiteralString

import msgspec

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.packed import PACKED_WITH_TIMES, unpacked_with_times
from shared.postgres import arrays
from shared.postgres.arrays import Moment
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.readings.model import Microseconds

# The blocks are built of what one snapshot contains. It follows two locks. That of readings: a month that the snapshot
# contains is not detached before the end of the transaction. That of retiring_months excludes drop_readings_month.
_SNAPSHOT = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
    LOCK TABLE ONLY readings IN ACCESS SHARE MODE;
    LOCK TABLE retiring_months IN ROW EXCLUSIVE MODE
"""
# On a Citus cluster, the DETACH of a month also locks retiring_months.
_SNAPSHOT_ON_CLUSTER = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
    LOCK TABLE retiring_months IN ROW EXCLUSIVE MODE
"""
_DEVICE: LiteralString = "SELECT announced, sealed FROM sealed_devices WHERE device_id = %s"
# On a Citus cluster the blocks may be older than `sealed` of the coordinator, unless the device is locked.
_ON_NODE: LiteralString = """
    WITH node AS MATERIALIZED (SELECT sealed FROM sealed_until WHERE device_id = %s)
    SELECT announced, coalesce((SELECT sealed FROM node), '-infinity') FROM sealed_devices WHERE device_id = %s
"""
_LOCK_DEVICE: LiteralString = _DEVICE + " FOR UPDATE SKIP LOCKED"


class SealedDevice(msgspec.Struct, frozen=True):
    """The state of a device: readings before `sealed` are in blocks or late; writers know of `announced`."""

    device_id: int
    announced: Microseconds
    sealed: Microseconds


@asynccontextmanager
async def locked(connection: Connection, device_id: int) -> AsyncIterator[SealedDevice | None]:
    """Lock the blocks of a device in a transaction for the block, in one snapshot.

    None if the device was deleted or is locked. Raises SerializationFailure if another worker has changed the device
    since the snapshot, which is older than the lock: each change updates the locked row (`changed`).
    """
    async with _found(connection, device_id, _LOCK_DEVICE) as device:
        yield device


@asynccontextmanager
async def observed(connection: Connection, device_id: int) -> AsyncIterator[SealedDevice | None]:
    """Return the device in a transaction for the block, in one snapshot, without a lock on it. None as for `locked`."""
    statement = _ON_NODE if await is_distributed(connection) else _DEVICE
    async with _found(connection, device_id, statement) as device:
        yield device


@asynccontextmanager
async def _found(
    connection: Connection, device_id: int, statement: LiteralString
) -> AsyncIterator[SealedDevice | None]:
    begin = _SNAPSHOT_ON_CLUSTER if await is_distributed(connection) else _SNAPSHOT
    async with connection.transaction(), arrays.cursor(connection) as cursor:
        await connection.execute(begin, prepare=False)
        row = await (await cursor.execute(statement, [device_id] * statement.count("%s"))).fetchone()
        yield None if row is None else SealedDevice(device_id, *row)


_CHANGED = "UPDATE sealed_devices SET sealed = sealed WHERE device_id = %s"


async def changed(connection: Connection, device_id: int) -> None:
    """Let transactions fail that wait for the lock with a snapshot from before the caller's transaction.

    It is for a transaction that changes blocks, and not `sealed`.
    """
    await connection.execute(_CHANGED, (device_id,))


_READ: LiteralString = f"""
    SELECT {PACKED_WITH_TIMES} FROM (
        SELECT recorded_at, x, y, z FROM readings
        WHERE device_id = %(device_id)s AND recorded_at >= %(first)s AND recorded_at < %(end)s
        ORDER BY recorded_at, x, y, z
    ) AS reading
"""  # noqa: S608  # constants


async def read_rows(connection: Connection, device_id: int, first: Microseconds, end: Microseconds) -> Columns | None:
    """Return the stored readings from `first` on, before `end`; None if there are none."""
    async with arrays.cursor(connection) as cursor:
        parameters = {"device_id": device_id, "first": Moment(first), "end": Moment(end)}
        await cursor.execute(_READ, parameters, prepare=False)  # so that only the months of the period are planned
        row = await cursor.fetchone()
    assert row is not None, "an aggregate has one row"
    return None if row[0] is None else unpacked_with_times(row[0])


# In the order of months. The extent of the device does not bound the search: a service that does not widen it may have
# stored readings (ADR 28), and `sealed` must not pass them.
_FIRST = """
    SELECT recorded_at FROM readings
    WHERE device_id = %(device_id)s AND recorded_at >= %(sealed)s AND recorded_at < %(until)s
    ORDER BY recorded_at LIMIT 1
"""


async def first_unsealed(connection: Connection, device: SealedDevice, until: Microseconds) -> Microseconds:
    """Return the time of the first reading that is not sealed and older than `until`; `until` if there is none."""
    async with arrays.cursor(connection) as cursor:
        parameters = {"device_id": device.device_id, "sealed": Moment(device.sealed), "until": Moment(until)}
        row = await (await cursor.execute(_FIRST, parameters, prepare=False)).fetchone()
    return until if row is None else int(row[0])
