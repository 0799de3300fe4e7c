"""Changes of the schema while services run.

A change that waits for the lock of a table blocks all later statements on it, and a long transaction (a pg_dump, a
report) may hold that lock. A service may also lock the same objects in another order. So a change gives up after
LOCK_TIMEOUT or at a deadlock, and is tried again after a pause, in which the services work.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from psycopg.errors import DeadlockDetected, LockNotAvailable

from shared.postgres.connections import Connection

LOCK_TIMEOUT = "250ms"
LOCK_PAUSE_S = 2.0

_PATIENCE = "SELECT set_config('lock_timeout', %s, true)"
_log = structlog.get_logger()
T = TypeVar("T")


async def patiently(connection: Connection, what: str, change: Callable[[], Awaitable[T]]) -> T:
    """Make the change in a transaction of its own, as often as it takes. `what`: a noun phrase for the log."""
    is_logged = False
    while True:
        try:
            async with connection.transaction():
                await connection.execute(_PATIENCE, (LOCK_TIMEOUT,))
                return await change()
        except (LockNotAvailable, DeadlockDetected) as error:
            if not is_logged:
                _log.warning(f"{what} waits for another transaction", reason=error.diag.message_primary)
            is_logged = True
            await asyncio.sleep(LOCK_PAUSE_S)
