"""The start of a service: it waits for a database that is not there yet, and checks what it finds.

What passes by itself is waited for, up to START_TIMEOUT: PostgreSQL starts, recovers from a crash or shuts down, takes
no more connections for now, or does not answer; its host's name is not known yet. What a person must mend is raised at
once: a refused login, an unknown database, a connection pooler in another mode than session, the wrong schema.
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
from shared.settings import Settings

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0
LINE_EVERY_S = 5.0
"""A line says at most this often what is waited for."""

_log = structlog.get_logger()
Say = Callable[[str], None]
"""Shows a line to the operator."""


class Patience:
    """The time that a service still waits, counted from when this is made."""

    def __init__(self, limit: timedelta | None, now: Callable[[], float] = time.monotonic) -> None:
        """`limit`: None waits without end."""
        self._now = now
        self._ends = None if limit is None else now() + limit.total_seconds()

    @property
    def is_over(self) -> bool:
        """Whether the service gives up."""
        return self._ends is not None and self._now() >= self._ends


@asynccontextmanager
async def first_connection(
    settings: Settings, application: str, stop: asyncio.Event
) -> AsyncIterator[Connection | None]:
    """The connection with which a service starts, on a schema that is its own; None where `stop` was set first.

    Raises DatabaseError.
    """
    connection = await connect_patiently(settings.database, application, Patience(settings.start_timeout), stop)
    if connection is None:
        yield None
        return
    async with connection:
        await check_pooler(connection, settings.database)
        await check_schema(connection)
        yield connection


async def connect_patiently(
    url: str, application: str, patience: Patience, stop: asyncio.Event, say: Say | None = None
) -> Connection | None:
    """Connect, and wait while the database is not there; None where `stop` was set first. Raises DatabaseError."""
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
    """Wait for the attempt; end it where `stop` is set first."""
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
    """Says what is waited for, at once and then every few seconds."""

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
