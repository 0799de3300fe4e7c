"""Announcements of the times that are about to be sealed, and the wait for writers that do not know of them.

A writer learns of each announcement that was committed before it entered the fence. So after an announcement, only
writers that hold the fence may store older readings without copying them. These are waited for, and nobody is blocked.
"""

import asyncio
import time
from collections.abc import Mapping, Set
from typing import LiteralString

import numpy as np

from shared.errors import DatabaseBusy
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moments
from shared.postgres.connections import Connection
from shared.postgres.distribution import prepared_transactions
from shared.readings.model import Microseconds

PAUSE_S = 0.01
PATIENCE_S = 60.0
"""An ingestor that hangs in a transaction is ended by the server after 30 s."""

# The lock is held until the commit: so numbers become visible in their order, and a writer can tell by the greatest one
# that it knows which ones it lacks.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('devicestat'), hashtext('sealing'))"
# A device that another transaction has locked is skipped: a long one would hold up all devices.
_ANNOUNCE = """
    WITH free AS (
        SELECT known.device_id, given.until FROM sealed_devices AS known
        JOIN unnest(%s::bigint[], %s::timestamptz[]) AS given (device_id, until) USING (device_id)
        ORDER BY device_id FOR UPDATE OF known SKIP LOCKED
    ), announced AS (
        UPDATE sealed_devices AS known SET announced = free.until, number = nextval('sealed_devices_number_seq')
        FROM free WHERE known.device_id = free.device_id AND known.announced < free.until
    )
    SELECT device_id FROM free
"""


async def announce(connection: Connection, until: Mapping[int, Microseconds]) -> Set[int]:
    """Announce that readings older than `until` of each device will be sealed. No announcement falls by this.

    Return the devices that may be sealed once writers were waited for. The others were deleted, or are locked.
    """
    devices = np.array(list(until), np.int64)
    async with connection.transaction(), arrays.cursor(connection) as cursor:
        await cursor.execute(_LOCK)
        await cursor.execute(_ANNOUNCE, (Bigints(devices), Moments(np.array(list(until.values()), np.int64))))
        return {device_id for (device_id,) in await cursor.fetchall()}


FENCE_HOLDERS: LiteralString = """
    pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = hashtext('devicestat')::oid AND objid = hashtext('deletion')::oid AND objsubid = 2
      AND mode = 'ShareLock' AND granted
"""
"""What SELECT … FROM names: the locks of the transactions that hold the fence."""
_HOLDERS: LiteralString = "SELECT virtualtransaction FROM " + FENCE_HOLDERS  # noqa: S608  # constants


async def wait_for_writers(connection: Connection, patience_s: float = PATIENCE_S) -> float:
    """Wait until each transaction that holds the fence now has ended; return the seconds that it took.

    Transaction ids would not do: a writer may hold the fence and have none yet. On a Citus cluster, it also waits for
    the transactions that are prepared on the nodes then: if a node or the coordinator has failed, a writer may be gone
    before its rows can be seen. Raises DatabaseBusy after `patience_s`.
    """
    began = time.monotonic()
    left = await _holders(connection)
    while left:
        await _pause(began, patience_s)
        left &= await _holders(connection)
    prepared = await prepared_transactions(connection)
    while prepared:
        await _pause(began, patience_s)
        prepared = prepared.still(await prepared_transactions(connection))
    return time.monotonic() - began


async def _pause(began: float, patience_s: float) -> None:
    if time.monotonic() - began > patience_s:
        raise DatabaseBusy(f"a transaction has been storing readings for more than {patience_s:g} s")
    await asyncio.sleep(PAUSE_S)


async def _holders(connection: Connection) -> Set[str]:
    return {row[0] for row in await (await connection.execute(_HOLDERS)).fetchall()}
