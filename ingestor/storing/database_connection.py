"""The writer's one connection to PostgreSQL, made anew for as long as it takes (ADR 6)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import psycopg
import structlog

from shared.backoff import backoff
from shared.errors import DatabaseBusy, DatabaseError
from shared.postgres.connections import Connection, connect, refusals_translated
from shared.postgres.errors import diagnose
from shared.postgres.schema_health import note_schema
from shared.postgres.starting import first_connection
from shared.serving.telemetry import Health
from shared.settings import Settings

BUSY_ATTEMPTS = 3
"""Attempts in a row that fail by a deadlock, a lock timeout or a cancelled statement before readiness ends."""

_log = structlog.get_logger()
_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")

# What an ingestor that stands still in a transaction holds, its successor waits for; and one whose host is gone is to
# be gone for the server as well.
_LIMITS = """
    SELECT set_config('idle_in_transaction_session_timeout', '30s', false),
           set_config('tcp_keepalives_idle', '30', false),
           set_config('tcp_keepalives_interval', '10', false),
           set_config('tcp_keepalives_count', '3', false)
"""

Prepare = Callable[[Connection], Awaitable[None]]
"""Makes a new connection ready for use."""


class DatabaseConnection:
    """A connection that outlives its server's absences; one attempt at a time has the use of it."""

    def __init__(self, url: str, health: Health, *prepare: Prepare) -> None:
        self._url = url
        self._health = health
        self._prepare = prepare
        self._connection: Connection | None = None
        self._in_use = asyncio.Lock()

    async def open(self, settings: Settings, stop: asyncio.Event) -> bool:
        """Connect, as soon as the database is there; false where `stop` was set first. Raises DatabaseError."""
        async with first_connection(settings, "ingestor start", stop) as connection:
            if connection is None:
                return False
        await self._connected()
        self._health.ready("database")
        return True

    async def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def retry_forever(
        self, attempt: Callable[[Connection, *_Arguments], Awaitable[_Result]], *arguments: *_Arguments
    ) -> _Result:
        """Return the result of the attempt. Retry it with jittered backoff while the database fails it."""
        waits, failures = backoff(), 0
        while True:
            try:
                async with self._in_use:
                    result = await attempt(await self._connected(), *arguments)
            except (psycopg.Error, DatabaseError) as error:
                delay = next(waits)
                failures += 1
                self._note(diagnose(error), failures, delay)
                await self.close()
                await asyncio.sleep(delay)
            else:
                self._health.ready("database")
                return result

    def _note(self, fault: DatabaseError, failures: int, delay: float) -> None:
        """Logs the fault. Readiness ends with it, unless it is about one statement and the next attempt may pass."""
        _log.warning("the database failed an attempt", reason=str(fault), retry_in_s=round(delay, 2))
        if failures >= BUSY_ATTEMPTS or not isinstance(fault, DatabaseBusy):
            self._health.not_ready("database", str(fault))

    async def probe(self) -> None:
        """Make sure that the database answers, and note whether its schema is still ours; return when it answers."""
        await self.retry_forever(note_schema, self._health)

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._url, "ingestor")
            with refusals_translated():
                await self._connection.execute(_LIMITS)
                for prepare in self._prepare:
                    await prepare(self._connection)
        return self._connection
