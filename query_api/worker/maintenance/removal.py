"""Remove the rows of deleted devices in steps (ADR 16, ADR 31).

Each step is a short transaction that locks the deletion mark. If a worker is killed, the mark remains and another
worker continues. Queued and running requests are removed first, so that clients do not wait for them. Ticks are removed
before their requests, as the deletion of a request would update its ticks.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from query_api.statistics.blocks.sealing.retiring import retire_device
from shared.postgres.connections import Connection
from shared.postgres.distribution import prepared_transactions
from shared.readings.extents import extent_of

BATCH_READINGS = 10_000
"""Readings of one step, plus those with the timestamp of the last one."""
BATCH_ROWS = 1_000
"""Requests with their results and callbacks, or ticks, or schedules of one step."""
BATCH_BLOCKS = 20
"""Rows of blocks of one step. The values of a large block take 67 MB."""
STEPS = 100
"""Most steps of one run. The next run continues."""
PREPARED_S, PAUSE_S = 0.5, 0.01
"""Time that batches in progress have to end on the nodes of a Citus cluster. The next run looks again at others."""


async def remove_all(connection: Connection) -> None:
    """Take up to STEPS steps, until the marks that are left are locked by other workers."""
    for _ in range(STEPS):
        if await remove_some(connection) is None:
            return


_TAKE = """
    SELECT number, device_id FROM deleted_devices WHERE removed_at IS NULL
    ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_DONE = "UPDATE deleted_devices SET removed_at = now() WHERE number = %s"
_FORGET = "DELETE FROM device_extents WHERE device_id = %s"


async def remove_some(connection: Connection, batch_readings: int = BATCH_READINGS) -> int | None:
    """Remove some rows of a deleted device. Return their number; None if there is nothing to remove."""
    async with connection.transaction():
        taken = await (await connection.execute(_TAKE)).fetchone()
        if taken is None:
            return None
        number, device_id = taken
        in_doubt = await _in_doubt(connection)  # before the removal, so that it sees what has ended
        for remove in (_remove_active, _remove_ticks, _remove_schedules, _remove_requests, _remove_blocks):
            if removed := await remove(connection, device_id):
                return removed
        removed = await _remove_readings(connection, device_id, batch_readings)
        if removed < batch_readings:
            if in_doubt:
                return removed or None
            await connection.execute(_DONE, (number,))
            await connection.execute(_FORGET, (device_id,))
    return removed


async def _in_doubt(connection: Connection) -> bool:
    """Whether a transaction is prepared on a node and stays so: it may have stored readings that cannot be seen yet."""
    ends = time.monotonic() + PREPARED_S
    left = await prepared_transactions(connection)
    while left and time.monotonic() < ends:
        await asyncio.sleep(PAUSE_S)
        left = left.still(await prepared_transactions(connection))
    return bool(left)


async def _remove_blocks(connection: Connection, device_id: int) -> int:
    return await retire_device(connection, device_id, BATCH_BLOCKS)


def _rows(statement: bytes) -> Callable[[Connection, int], Awaitable[int]]:
    async def remove(connection: Connection, device_id: int) -> int:
        return (await connection.execute(statement, {"device_id": device_id, "limit": BATCH_ROWS})).rowcount

    return remove


# SKIP LOCKED, as a worker may be ending one of the requests.
_remove_active = _rows(b"""
    DELETE FROM analysis_requests WHERE id IN (
        SELECT id FROM analysis_requests
        WHERE device_id = %(device_id)s AND status IN ('queued', 'running')
        ORDER BY status, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
""")
_remove_ticks = _rows(b"""
    DELETE FROM analysis_ticks WHERE (schedule_id, tick) IN (
        SELECT schedule_id, tick
        FROM analysis_schedules AS schedule CROSS JOIN LATERAL (
            SELECT schedule_id, tick FROM analysis_ticks WHERE schedule_id = schedule.id ORDER BY tick LIMIT %(limit)s
        ) AS tick
        WHERE device_id = %(device_id)s
        LIMIT %(limit)s)
""")
_remove_schedules = _rows(b"""
    DELETE FROM analysis_schedules WHERE id IN (
        SELECT id FROM analysis_schedules WHERE device_id = %(device_id)s ORDER BY id LIMIT %(limit)s)
""")
_remove_requests = _rows(b"""
    DELETE FROM analysis_requests WHERE id IN (
        SELECT id FROM analysis_requests WHERE device_id = %(device_id)s ORDER BY id LIMIT %(limit)s)
""")

# By the index, up to the timestamp of the last reading of the batch, in the months of the device (ADR 28).
_REMOVE = """
    DELETE FROM readings
    WHERE device_id = %(device_id)s
      AND recorded_at >= coalesce(%(first)s::timestamptz, '-infinity')
      AND recorded_at <= coalesce(%(last)s::timestamptz, 'infinity')
      AND recorded_at <= coalesce(
          (SELECT recorded_at FROM readings
           WHERE device_id = %(device_id)s
             AND recorded_at >= coalesce(%(first)s::timestamptz, '-infinity')
             AND recorded_at <= coalesce(%(last)s::timestamptz, 'infinity')
           ORDER BY recorded_at OFFSET %(others)s LIMIT 1), 'infinity')
"""


async def _remove_readings(connection: Connection, device_id: int, batch: int) -> int:
    extent = await extent_of(connection, [device_id])
    parameters = {"device_id": device_id, "others": batch - 1, "first": extent.first, "last": extent.last}
    return (await connection.execute(_REMOVE, parameters, prepare=False)).rowcount
