"""Batches become rows, one after the other.

Whatever the database's fault is, a batch stays in hand and is tried again, for ever (`database_connection`);
the journal tells whether an attempt whose COMMIT was not answered went through after all (ADR 3).
"""

import time
from collections.abc import Awaitable, Set
from contextlib import suppress
from functools import partial

from ingestor.batch import Batch
from ingestor.delivery import journal as journals
from ingestor.delivery.journal import Entry, Journal
from ingestor.devices import Devices
from ingestor.metrics import IngestMetrics
from ingestor.storing.database_connection import DatabaseConnection
from ingestor.storing.sampling import Sampler
from ingestor.storing.store import DevicesDeleted, Store
from shared.errors import SessionTakenOver, StaleConnection
from shared.postgres.connections import Connection
from shared.readings.announce import Interest
from shared.readings.model import Reason
from shared.readings.store import Stored
from shared.settings import TopicFilter


class Writer:
    """Stores batches, and keeps the journal of it."""

    def __init__(
        self,
        database: DatabaseConnection,
        journal: Journal,
        devices: Devices,
        interest: Interest,
        sampler: Sampler,
        metrics: IngestMetrics,
        topic_filter: TopicFilter,
    ) -> None:
        self._database = database
        self._journal = journal
        self._devices = devices
        self._metrics = metrics
        self._filter = topic_filter
        self._store = Store(journal, devices, interest, sampler)
        self._owns_journal = False

    async def write(self, batch: Batch) -> None:
        """Stores the batch, however long it takes. Raises SessionTakenOver, and nothing of the database's."""
        began = time.monotonic()
        if batch.unresolved:
            await self._database.persevere(partial(self._resolve, batch))
        entry = self._journal.next(bytes(batch.packets), batch.held)
        while True:
            try:
                stored = await self._persist(batch, entry)
            except DevicesDeleted as error:
                await self._database.persevere(partial(self._look_up_again, batch, error.numbers))
            else:
                break
        self._count(batch, stored, began)

    async def prepare_session(self) -> None:
        """A connection is about to be made: until the journal is ours, reads where it stands."""
        if not self._owns_journal:
            await self._database.persevere(self._load_journal)

    @property
    def remembers(self) -> bool:
        """Whether the journal knows packets of the broker's session."""
        return not self._journal.is_empty

    async def is_replaced(self) -> bool:
        """Whether another ingestor has written to the journal since it was ours."""
        if not self._owns_journal:
            return False
        try:
            await self._database.persevere(partial(journals.find, journal=self._journal))
        except SessionTakenOver:
            return True
        return False

    async def forget_session(self) -> None:
        """The broker has lost the session: its packet ids begin anew, and say nothing of the old ones."""
        self._journal.void()
        await self.begin_session()

    async def begin_session(self) -> None:
        """A connection has begun: writes the entry without packets that makes the journal ours.

        Raises SessionTakenOver where it was ours and another ingestor has written since. The first connection
        takes it from whoever wrote it, as it took the session; but who still wrote after that connection was made
        may also have stored what is about to come over it: StaleConnection.
        """
        try:
            await self._mark_journal()
        except SessionTakenOver as error:
            if self._owns_journal:
                raise
            await self._take_journal()
            raise StaleConnection("another ingestor of this client id was still at work") from error
        self._owns_journal = True

    async def _take_journal(self) -> None:
        while not self._owns_journal:
            await self._database.persevere(self._load_journal)
            with suppress(SessionTakenOver):  # it was still committing: read that as well
                await self._mark_journal()
                self._owns_journal = True

    async def _mark_journal(self) -> None:
        await self._persist(Batch(), self._journal.next(b"", self._journal.held))

    async def _persist(self, batch: Batch, entry: Entry) -> Stored:
        def attempt(connection: Connection) -> Awaitable[Stored]:
            return self._store.store(connection, batch, entry)

        stored = await self._database.persevere(attempt)
        self._journal.append(entry)
        return stored

    async def _load_journal(self, connection: Connection) -> None:
        await journals.load(connection, self._journal)

    async def _resolve(self, batch: Batch, connection: Connection) -> None:
        topics = {one.message.topic: one.key for one in batch.unresolved}
        batch.settle(await self._devices.resolve(connection, topics))

    async def _look_up_again(self, batch: Batch, deleted: Set[int], connection: Connection) -> None:
        """Another device may have been registered with the key of one that was deleted."""
        keys = {topic: self._filter.key(topic) for topic in batch.topics_of(deleted)}
        topics = {topic: key for topic, key in keys.items() if key is not None}
        batch.reassign(deleted, await self._devices.resolve(connection, topics))

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
