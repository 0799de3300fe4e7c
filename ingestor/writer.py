"""A batch becomes rows: readings, dead letters and the journal in one transaction.

The writer has one connection of its own. Whatever the database's fault is, the batch stays in hand and is
tried again, for ever, with jittered backoff (ADR 6); the journal tells whether an attempt whose COMMIT was
not answered went through after all (ADR 3).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import psycopg
import structlog
from psycopg.errors import UniqueViolation

from ingestor import journal as journals
from ingestor.batch import Batch
from ingestor.devices import Devices
from ingestor.isolate import ROW_FAULTS, RefusedRow, store_isolating
from ingestor.journal import Entry, Journal
from ingestor.metrics import IngestMetrics
from shared import dead_letters
from shared.backoff import backoff
from shared.database import Connection, connect, refusals_translated
from shared.errors import DatabaseError, SessionTakenOver
from shared.migrate import check_schema
from shared.models import Reading, Reason
from shared.readings import Partitions, Stored, prepare, store
from shared.settings import Settings
from shared.telemetry import Health

_log = structlog.get_logger()
_Result = TypeVar("_Result")


class Writer:
    """Stores batches, one after the other."""

    def __init__(
        self, settings: Settings, journal: Journal, devices: Devices, metrics: IngestMetrics, health: Health
    ) -> None:
        self._url = settings.database
        self._journal = journal
        self._devices = devices
        self._metrics = metrics
        self._health = health
        self._partitions = Partitions()
        self._connection: Connection | None = None
        self._in_use = asyncio.Lock()
        self._owns_journal = False

    async def open(self) -> None:
        """Connects. Raises DatabaseUnreachable, SchemaTooOld, SchemaTooNew."""
        await check_schema(await self._connected())
        self._health.ready("database")

    async def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def write(self, batch: Batch) -> None:
        """Stores the batch, however long it takes. Raises SessionTakenOver, and nothing of the database's."""
        began = time.monotonic()
        if batch.unresolved:
            await self._persevere(partial(self._resolve, batch))
        packets = journals.pack(batch.packets)
        stored = await self._persevere(partial(self._store, batch, packets))
        self._journal.append(Entry(self._journal.next_no, packets))
        self._count(batch, stored, began)

    async def begin_session(self, *, session_present: bool) -> None:
        """A connection begins: makes the journal ours, and void if the broker has no session of ours any more.

        The first connection takes the journal from whoever wrote it, as it took the session. Raises
        SessionTakenOver where a later one finds that another ingestor has done so.
        """
        while not self._owns_journal:
            await self._persevere(self._load_journal)
            with suppress(SessionTakenOver):  # the other one was still committing: read that as well
                await self._mark_journal(session_present=session_present)
                self._owns_journal = True
                return
        await self._mark_journal(session_present=session_present)

    async def probe(self) -> None:
        """Makes sure that the database answers; returns when it does."""
        await self._persevere(_ask)

    async def _mark_journal(self, *, session_present: bool) -> None:
        if not session_present:
            self._journal.void()
        await self._persevere(partial(self._store, Batch(), b""))
        self._journal.append(Entry(self._journal.next_no, b""))
        self._journal.expect_redelivery()

    # One attempt

    async def _load_journal(self, connection: Connection) -> None:
        await journals.load(connection, self._journal)

    async def _resolve(self, batch: Batch, connection: Connection) -> None:
        topics = {message.packet.topic: message.key for message in batch.unresolved}
        batch.settle(await self._devices.resolve(connection, topics))

    async def _store(self, batch: Batch, packets: bytes, connection: Connection) -> Stored:
        await self._partitions.ensure(connection, batch.readings)
        try:
            return await self._commit(batch, packets, connection, _store_all)
        except ROW_FAULTS:
            self._partitions.forget()  # a month may have been dropped since
            await self._partitions.ensure(connection, batch.readings)
            return await self._commit(batch, packets, connection, store_isolating)

    async def _commit(self, batch: Batch, packets: bytes, connection: Connection, how: "_How") -> Stored:
        try:
            async with connection.transaction():
                stored, refused = await how(connection, batch.readings)
                letters = batch.dead_letters + [batch.dead_letter(row.index, row.detail) for row in refused]
                if letters:
                    await dead_letters.add(connection, letters)
                await journals.record(connection, self._journal, packets, stored)
        except UniqueViolation as error:
            found = await journals.find(connection, self._journal)
            if found is None:
                raise
            _log.info("batch was committed already", batch_no=self._journal.next_no, error=str(error))
            return found
        return stored

    # As many as it takes

    async def _persevere(self, attempt: Callable[[Connection], Awaitable[_Result]]) -> _Result:
        waits = backoff()
        while True:
            try:
                async with self._in_use:
                    result = await attempt(await self._connected())
            except (psycopg.Error, DatabaseError) as error:
                delay = next(waits)
                self._health.not_ready("database", str(error).strip())
                _log.warning("database away", error=str(error).strip(), retry_in_s=round(delay, 2))
                await self.close()
                await asyncio.sleep(delay)
            else:
                self._health.ready("database")
                return result

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._url, "ingestor")
            with refusals_translated():
                await prepare(self._connection)
                await self._devices.listen(self._connection)
        return self._connection

    def _count(self, batch: Batch, stored: Stored, began: float) -> None:
        counts, now = self._metrics.counts, time.monotonic()
        counts.committed_at = time.time()
        counts.stored += stored.stored
        counts.duplicate += stored.duplicates
        counts.rejected += batch.rejected
        counts.rejected[Reason.DATABASE_REFUSED] += len(batch.readings) - stored.stored - stored.duplicates
        self._metrics.batch_readings.observe(batch.received)
        self._metrics.commit_seconds.observe(now - began)
        self._metrics.delay_seconds.observe(now - batch.opened_at)


_How = Callable[[Connection, list[Reading]], Awaitable[tuple[Stored, list[RefusedRow]]]]


async def _store_all(connection: Connection, readings: list[Reading]) -> tuple[Stored, list[RefusedRow]]:
    return await store(connection, readings), []


async def _ask(connection: Connection) -> None:
    await connection.execute("SELECT 1")
