"""The first connection of a service, which waits for the database at startup and checks it.

It retries temporary failures up to START_TIMEOUT: PostgreSQL is starting, recovering from a crash or shutting down, has
no free connection, or does not respond; its host name does not resolve yet. It raises permanent failures immediately: a
refused login, an unknown database, a connection pooler that is not in session mode, another schema version.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from shared.backoff import backoff
from shared.errors import DatabaseUnreachable, LoginRefused
from shared.postgres.connections import Connection, connect
from shared.postgres.migrate import check_schema
from shared.postgres.pooler import check_pooler

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0
LINE_EVERY_S = 5.0
"""Minimum interval between two log lines about the wait."""

_log = structlog.get_logger()
Say = Callable[[str], None]
"""Prints a line for the operator."""


class Patience:
    """The remaining time that a service waits, counted from the construction of this object."""

    def __init__(self, limit: timedelta | None) -> None:
        """`limit`: None for no limit."""
        self._ends = None if limit is None else time.monotonic() + limit.total_seconds()

    @property
    def is_over(self) -> bool:
        """Whether the time has passed."""
        return self._ends is not None and time.monotonic() >= self._ends


@asynccontextmanager
async def first_connection(
    url: str, application: str, limit: timedelta | None, stop: asyncio.Event
) -> AsyncIterator[Connection | None]:
    """Open the first connection of a service, and check pooler and schema; yield None if `stop` is set first.

    `limit`: the time to wait for an unreachable database; None for no limit. Raises DatabaseError.
    """
    connection = await connect_patiently(url, application, Patience(limit), stop)
    if connection is None:
        yield None
        return
    async with connection:
        await check_pooler(connection, url)
        await check_schema(connection)
        yield connection


async def connect_patiently(
    url: str, application: str, patience: Patience, stop: asyncio.Event, say: Say | None = None
) -> Connection | None:
    """Connect, and retry temporary failures; return None if `stop` is set first. Raises DatabaseError."""
    line = _Lines(say or _warn)
    waits = backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
    while not stop.is_set():
        attempt = asyncio.create_task(connect(url, application), name="connect to PostgreSQL")
        try:
            if await _ended_before(stop, attempt):
                return attempt.result()
        except DatabaseUnreachable as error:
            if isinstance(error, LoginRefused) or patience.is_over:
                raise
            line.say(f"waiting for PostgreSQL: {error}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), next(waits))
    return None


async def _ended_before(stop: asyncio.Event, attempt: "asyncio.Task[Connection]") -> bool:
    """Wait for the attempt, and return whether it ended; cancel it if `stop` is set first."""
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({attempt, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not attempt.done():
            attempt.cancel()
            await asyncio.wait({attempt})
    return not attempt.cancelled()


class _Lines:
    """Reports the wait, immediately and then every few seconds."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said_at: float | None = None

    def say(self, line: str) -> None:
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= LINE_EVERY_S:
            self._say(line)
            self._said_at = now


def _warn(line: str) -> None:
    _log.warning(line)
