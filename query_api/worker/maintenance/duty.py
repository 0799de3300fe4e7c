"""Limits of work in the background: a share of the time, one worker at a time, and the failure of one device."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from psycopg.errors import DeadlockDetected, SerializationFailure

from query_api.worker.metrics import WorkerMetrics
from shared.errors import DatabaseReadOnly, DatabaseUnreachable, DiskFull
from shared.postgres.connections import Connection
from shared.postgres.errors import diagnose

SHARE = 0.25
"""Of the time."""
CONTENTION = (SerializationFailure, DeadlockDetected)
"""Another worker, or the removal of the device, was faster."""
OF_ALL_DEVICES = (DatabaseUnreachable, DatabaseReadOnly, DiskFull)
"""Failures that concern no single device."""
LONGEST_REST_S = 60.0
"""Longest rest, so that a round ends although the database was slow."""

_log = structlog.get_logger()


class Duty:
    """Limits work to a share of the time: `rest` sleeps in proportion to the time since the last rest."""

    def __init__(self, share: float = SHARE, clock: Callable[[], float] = time.monotonic) -> None:
        self._factor = 1 / share - 1
        self._clock = clock
        self._began = clock()

    async def rest(self) -> None:
        """Sleep, for LONGEST_REST_S at most."""
        await asyncio.sleep(min(LONGEST_REST_S, (self._clock() - self._began) * self._factor))
        self._began = self._clock()


_LOCK = "SELECT pg_try_advisory_lock(hashtext('devicestat'), hashtext(%s))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtext('devicestat'), hashtext(%s))"


@asynccontextmanager
async def alone(connection: Connection, name: str) -> AsyncIterator[bool]:
    """Whether no other worker is in the block of this name. It may not enter while this one is."""
    (is_alone,) = await (await connection.execute(_LOCK, (name,))).fetchone() or (False,)
    try:
        yield is_alone
    finally:
        if is_alone and not connection.closed:
            await connection.execute(_UNLOCK, (name,))


def note_failure(error: Exception, work: str, device_id: int, metrics: WorkerMetrics) -> None:
    """Log and count that the work failed for one device. Raises the error if it would fail for all devices."""
    if isinstance(diagnose(error), OF_ALL_DEVICES):
        raise error
    metrics.sealing_failures.inc()
    _log.error("the work on the blocks of a device failed", work=work, device_id=device_id, exc_info=error)
