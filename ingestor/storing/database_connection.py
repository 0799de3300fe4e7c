"""The ingestor's connection to PostgreSQL, which is reopened until it works (ADR 6)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import psycopg
import structlog

from shared.backoff import backoff
from shared.errors import DatabaseBusy, DatabaseError
from shared.postgres.connections import Connection, connect, refusals_translated
from shared.postgres.errors import diagnose
from shared.postgres.starting import first_connection
from shared.serving.schema_health import note_schema
from shared.serving.telemetry import Health
from shared.settings import Settings

BUSY_ATTEMPTS = 3
"""Consecutive failures by deadlock, lock timeout or a cancelled statement after which the ingestor is not ready."""

_log = structlog.get_logger()
_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")

# A successor waits for the locks of an ingestor that hangs in a transaction. The server must also notice if the host of
# an ingestor is gone. On Citus a batch needs a connection for each shard; by default one for each node is kept.
_LIMITS = """
    SELECT set_config('idle_in_transaction_session_timeout', '30s', false),
           set_config('tcp_keepalives_idle', '30', false),
           set_config('tcp_keepalives_interval', '10', false),
           set_config('tcp_keepalives_count', '3', false),
           CASE WHEN current_setting('citus.max_cached_conns_per_worker', true) IS NOT NULL
                THEN set_config('citus.max_cached_conns_per_worker', '32', false) END
"""

Prepare = Callable[[Connection], Awaitable[None]]
"""Makes a new connection ready for use."""


class DatabaseConnection:
    """A connection that survives outages of its server. One attempt at a time uses it."""

    def __init__(self, url: str, health: Health, *prepare: Prepare) -> None:
        self._url = url
        self._health = health
        self._prepare = prepare
        self._connection: Connection | None = None
        self._in_use = asyncio.Lock()

    async def open(self, settings: Settings, stop: asyncio.Event) -> bool:
        """Wait for the database and connect; return False if `stop` is set first. Raises DatabaseError."""
        async with first_connection(settings.database, "ingestor start", settings.start_timeout, stop) as connection:
            if connection is None:
                return False
        await self._connected()
        self._health.ready("database")
        return True

    async def close(self) -> None:
        """Close the connection."""
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
        """Log the fault. Report not ready, unless it concerns one statement and the next attempt may succeed."""
        _log.warning("a database operation failed and will be retried", reason=str(fault), retry_in_s=round(delay, 2))
        if failures >= BUSY_ATTEMPTS or not isinstance(fault, DatabaseBusy):
            self._health.not_ready("database", str(fault))

    async def between_attempts(self, action: Callable[[Connection], Awaitable[None]]) -> None:
        """Run a short action when no attempt uses the connection. Do nothing while there is no connection.

        Raises what the action raises. It changes nothing in the health.
        """
        async with self._in_use:
            if self._connection is not None and not self._connection.closed:
                await action(self._connection)

    async def probe(self) -> None:
        """Retry until the database responds, and check the version of its schema."""
        await self.retry_forever(note_schema, self._health)

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._url, "ingestor")
            with refusals_translated():
                await self._connection.execute(_LIMITS)
                for prepare in self._prepare:
                    await prepare(self._connection)
        return self._connection
