"""Batches become rows, one after the other.

Whatever the database's fault is, a batch stays in hand and is tried again, for ever (`database_connection`);
the journal tells whether an attempt whose COMMIT was not answered went through after all (ADR 3).
"""

import time
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial

from ingestor import journal as journals
from ingestor.batch import Batch
from ingestor.database_connection import DatabaseConnection
from ingestor.devices import Devices
from ingestor.journal import Entry, Journal
from ingestor.metrics import IngestMetrics
from ingestor.store import Store
from shared.database import Connection
from shared.errors import SessionTakenOver
from shared.models import Reason
from shared.readings import Stored


class Writer:
    """Stores batches, and keeps the journal of it."""

    def __init__(
        self, database: DatabaseConnection, journal: Journal, devices: Devices, metrics: IngestMetrics
    ) -> None:
        self._database = database
        self._journal = journal
        self._devices = devices
        self._metrics = metrics
        self._store = Store(journal)
        self._owns_journal = False

    async def write(self, batch: Batch) -> None:
        """Stores the batch, however long it takes. Raises SessionTakenOver, and nothing of the database's."""
        began = time.monotonic()
        if batch.unresolved:
            await self._database.persevere(partial(self._resolve, batch))
        packets = journals.pack(batch.packets)
        stored = await self._persist(batch, packets)
        self._count(batch, stored, began)

    async def begin_session(self, *, session_present: bool) -> None:
        """A connection begins: makes the journal ours, and void if the broker has no session of ours any more.

        The first connection takes the journal from whoever wrote it, as it took the session. Raises
        SessionTakenOver where a later one finds that another ingestor has done so.
        """
        while not self._owns_journal:
            await self._database.persevere(self._load_journal)
            with suppress(SessionTakenOver):  # the other one was still committing: read that as well
                await self._mark_journal(session_present=session_present)
                self._owns_journal = True
                return
        await self._mark_journal(session_present=session_present)

    async def _mark_journal(self, *, session_present: bool) -> None:
        if not session_present:
            self._journal.void()
        await self._persist(Batch(), b"")
        self._journal.expect_redelivery()

    async def _persist(self, batch: Batch, packets: bytes) -> Stored:
        def attempt(connection: Connection) -> Awaitable[Stored]:
            return self._store.store(connection, batch, packets)

        stored = await self._database.persevere(attempt)
        self._journal.append(Entry(self._journal.next_no, packets))
        return stored

    async def _load_journal(self, connection: Connection) -> None:
        await journals.load(connection, self._journal)

    async def _resolve(self, batch: Batch, connection: Connection) -> None:
        topics = {message.packet.topic: message.key for message in batch.unresolved}
        batch.settle(await self._devices.resolve(connection, topics))

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
