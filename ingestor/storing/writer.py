"""The writer stores batches, one after the other, each in one transaction with its entry in the journal.

The transaction holds the readings, the dead letters and the packet ids. There are three ways to store the readings:

1. If all readings are new: COPY directly into the table.
2. If some readings are already stored: through a staging table, which skips them.
3. If the database refuses readings or a dead letter: by halving the batch until each refused row is alone (`isolate`).

If the database fails for another reason, the batch is retried until it is stored (`database_connection`). If a COMMIT
was not answered, the journal shows whether it succeeded (ADR 3).
"""

import time
from collections.abc import Awaitable, Callable, Set
from contextlib import suppress

import structlog
from psycopg.errors import DeadlockDetected, InternalError_, UniqueViolation

from ingestor.batch import Batch
from ingestor.delivery import journal as journals
from ingestor.delivery.journal import Entry, Journal, NumberTaken
from ingestor.devices import Devices
from ingestor.metrics import IngestMetrics
from ingestor.payload.refusals import RefusedRow
from ingestor.storing.database_connection import DatabaseConnection
from ingestor.storing.isolate import keep_isolating, store_isolating
from ingestor.storing.sampling import LetterSample, Sampler
from shared.errors import SessionTakenOver, StaleConnection
from shared.postgres.connections import Connection
from shared.postgres.errors import COPY_FAULTS, ROW_FAULTS
from shared.readings import dead_letters
from shared.readings import store as readings
from shared.readings.announce import Interest, announce
from shared.readings.announcements import Announcements
from shared.readings.deletions import MarksMissed
from shared.readings.model import DeadLetter, Reason
from shared.readings.partitions import Partitions, is_month_missing
from shared.readings.rows import Rows
from shared.readings.store import Stored
from shared.settings import TopicFilter

STAGED_BATCHES = 100
"""Batches that skip the first way after it has failed. A device that resends readings usually resends several batches,
and the rows of a failed COPY must be vacuumed."""

_log = structlog.get_logger()
_Add = Callable[[Connection, list[DeadLetter]], Awaitable[None]]
_Way = Callable[[Connection, Rows, Announcements], Awaitable[tuple[Stored, list[RefusedRow]]]]


class DevicesDeleted(Exception):
    """The batch has readings of devices that were or may have been deleted. Their keys must be looked up again."""

    def __init__(self, numbers: Set[int]) -> None:
        self.numbers = numbers
        super().__init__()


class Writer:
    """Stores batches with their journal entries."""

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
        self._interest = interest
        self._sampler = sampler
        self._partitions = Partitions()
        self._staged_batches = 0
        self._missed_at = float("-inf")  # seconds; when it was last found that deletion marks had been removed unread
        self._owns_journal = False

    async def write(self, batch: Batch) -> None:
        """Store the batch; retry database errors without limit. Raises SessionTakenOver."""
        began = time.monotonic()
        if batch.unresolved:
            await self._database.retry_forever(self._resolve, batch)
        entry = self._journal.next(bytes(batch.packets), batch.held)
        while True:
            try:
                stored = await self._persist(batch, entry)
            except DevicesDeleted as error:
                await self._database.retry_forever(self._look_up_again, batch, error.numbers)
            else:
                break
        self._count(batch, stored, began)

    async def _resolve(self, connection: Connection, batch: Batch) -> None:
        topics = {one.message.topic: one.key for one in batch.unresolved}
        batch.settle(await self._devices.resolve(connection, topics))

    async def _look_up_again(self, connection: Connection, batch: Batch, deleted: Set[int]) -> None:
        """Look up the keys of deleted devices: other devices may have been registered with them."""
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

    # One transaction.

    async def _persist(self, batch: Batch, entry: Entry) -> Stored:
        stored = await self._database.retry_forever(self.store, batch, entry)
        self._journal.append(entry)
        return stored

    async def store(self, connection: Connection, batch: Batch, entry: Entry) -> Stored:
        """Store the batch and its journal entry, or find that an earlier attempt did so.

        Raises psycopg.Error for a fault of the database, DevicesDeleted, and SessionTakenOver.
        """
        await self._partitions.ensure(connection, batch.readings)
        if self._staged_batches > 0:
            self._staged_batches -= 1
        else:
            try:
                return await self._commit(connection, batch, entry, _straight)
            except (*COPY_FAULTS, DeadlockDetected) as error:
                if is_month_missing(error):
                    await self._make_months_again(connection, batch)
                else:
                    self._staged_batches = STAGED_BATCHES
        try:
            return await self._commit(connection, batch, entry, _staged)
        except ROW_FAULTS:
            await self._make_months_again(connection, batch)
            return await self._commit(connection, batch, entry, store_isolating)

    async def _make_months_again(self, connection: Connection, batch: Batch) -> None:
        """Create the months' partitions again: one may have been dropped, because it was empty or past RETENTION."""
        self._partitions.forget()
        await self._partitions.ensure(connection, batch.readings)

    async def _commit(self, connection: Connection, batch: Batch, entry: Entry, way: _Way) -> Stored:
        try:
            async with connection.transaction():
                await self._pass_fence(connection, batch)
                stored, refused = await way(connection, batch.readings, self._devices.announcements)
                sample = self._sampler.take(batch.letters(refused), batch.opened_at)
                rows = await _keep(connection, sample, keep_isolating if way is store_isolating else dead_letters.add)
                await journals.record(connection, self._journal, entry, stored)
                await announce(connection, self._interest, batch.readings)
        except (NumberTaken, UniqueViolation, InternalError_, DevicesDeleted):
            found = await journals.find(connection, self._journal)
            if found is None:  # a reading already exists, or a device does not
                raise
            _log.info("the batch is already committed", batch_no=self._journal.next_no)
            return found
        self._sampler.remember(sample, rows)
        return stored

    async def _pass_fence(self, connection: Connection, batch: Batch) -> None:
        try:
            deleted = await self._devices.pass_fence(connection)
        except MarksMissed:
            self._missed_at, deleted = time.monotonic(), frozenset()
        if batch.looked_up_at <= self._missed_at:  # also a batch that was queued, or is retried
            deleted = batch.readings.devices()
        if deleted and not batch.readings.devices().isdisjoint(deleted):
            raise DevicesDeleted(deleted)

    # The session, and the ownership of its journal.

    async def prepare_session(self) -> None:
        """Read the journal before a connection is made, until this ingestor owns it."""
        if not self._owns_journal:
            await self._database.retry_forever(journals.load, self._journal)

    @property
    def remembers(self) -> bool:
        """Whether the journal has packets of the broker session."""
        return not self._journal.is_empty

    @property
    def needs_next(self) -> bool:
        """Whether only a new message may show which packets of the next connection are stored."""
        return self._journal.needs_next

    async def is_replaced(self) -> bool:
        """Whether another ingestor has taken the journal from this one."""
        if not self._owns_journal:
            return False
        try:
            await self._database.retry_forever(journals.find, self._journal)
        except SessionTakenOver:
            return True
        return False

    async def forget_session(self) -> None:
        """Void the journal: the broker has lost the session, so its packet ids start again."""
        self._journal.void()
        await self.begin_session()

    def miss_session(self) -> None:
        """Take note of a CONNECT without an answer: the broker may have begun a connection all the same."""
        self._journal.miss_beginning()

    async def begin_session(self) -> None:
        """Take ownership of the journal for a new connection, by an entry without packets.

        Raises SessionTakenOver if another ingestor has taken the journal from this one. The first connection takes the
        journal from its previous owner, as it took the session. Raises StaleConnection if that owner wrote to the
        journal after the connection was made: it may also have stored what this connection is about to deliver.
        """
        try:
            await self._persist(Batch(), self._journal.beginning())
        except SessionTakenOver as error:
            if self._owns_journal:
                raise
            await self._take_journal()
            raise StaleConnection("another ingestor of this client id was still at work") from error
        self._owns_journal = True

    async def _take_journal(self) -> None:
        while not self._owns_journal:
            await self._database.retry_forever(journals.load, self._journal)
            with suppress(SessionTakenOver):  # the previous owner has committed meanwhile: read the journal again
                await self._persist(Batch(), self._journal.next(b"", self._journal.held))
                self._owns_journal = True


async def _keep(connection: Connection, sample: LetterSample, add: _Add) -> dict[int, int]:
    if sample.kept:
        await add(connection, sample.kept)
    return {key: await dead_letters.count(connection, omitted) for key, omitted in sample.omitted.items()}


async def _straight(
    connection: Connection, batch: Rows, announcements: Announcements
) -> tuple[Stored, list[RefusedRow]]:
    return await readings.store_new(connection, batch, announcements), []


async def _staged(connection: Connection, batch: Rows, announcements: Announcements) -> tuple[Stored, list[RefusedRow]]:
    return await readings.store(connection, batch, announcements), []
