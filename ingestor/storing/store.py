"""A batch in one transaction: its readings, its dead letters, its entry in the journal.

Three ways to store the readings, each for what the one before it cannot:

1. all of them are new: straight into the table;
2. some are there already: through the staging table, which passes those over;
3. the database refuses some, or a dead letter: by halves, until each of those is alone (`isolate`).
"""

import time
from collections.abc import Awaitable, Callable, Set

import structlog
from psycopg.errors import DeadlockDetected, UniqueViolation

from ingestor.batch import Batch
from ingestor.delivery import journal as journals
from ingestor.delivery.journal import Entry, Journal, NumberTaken
from ingestor.devices import Devices
from ingestor.storing.isolate import ROW_FAULTS, RefusedRow, keep_isolating, store_isolating
from ingestor.storing.sampling import Sample, Sampler
from shared.postgres.connections import Connection
from shared.readings import dead_letters
from shared.readings import store as readings
from shared.readings.announce import Interest, announce
from shared.readings.deletions import MarksMissed
from shared.readings.model import DeadLetter
from shared.readings.partitions import Partitions, is_month_missing
from shared.readings.rows import Rows
from shared.readings.store import Stored

STAGED_BATCHES = 100
"""So many batches are not tried the first way after one that failed it: a device that sends again seldom sends
again one batch only, and what was copied in vain is left to be vacuumed."""

_log = structlog.get_logger()
_Add = Callable[[Connection, list[DeadLetter]], Awaitable[None]]
_Way = Callable[[Connection, Rows], Awaitable[tuple[Stored, list[RefusedRow]]]]


class DevicesDeleted(Exception):
    """The batch has readings of devices that were deleted, or may have been: their keys are to be looked up again."""

    def __init__(self, numbers: Set[int]) -> None:
        self.numbers = numbers
        super().__init__()


class Store:
    """Stores batches, each under the next number of the journal."""

    def __init__(self, journal: Journal, devices: Devices, interest: Interest, sampler: Sampler) -> None:
        self._journal = journal
        self._devices = devices
        self._interest = interest
        self._sampler = sampler
        self._partitions = Partitions()
        self._staged_batches = 0
        self._missed_at = float("-inf")  # seconds; when marks of deletions were last found to be gone unseen

    async def store(self, connection: Connection, batch: Batch, entry: Entry) -> Stored:
        """Stores the batch, or finds that an earlier attempt did so.

        `entry`: what the journal records with it. Raises psycopg.Error where the database is at fault,
        DevicesDeleted, and SessionTakenOver.
        """
        await self._partitions.ensure(connection, batch.readings)
        if self._staged_batches > 0:
            self._staged_batches -= 1
        else:
            try:
                return await self._commit(connection, batch, entry, _straight)
            except (*ROW_FAULTS, DeadlockDetected) as error:
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
        """One that is known may have been dropped since: it was empty, or is older than RETENTION by now."""
        self._partitions.forget()
        await self._partitions.ensure(connection, batch.readings)

    async def _commit(self, connection: Connection, batch: Batch, entry: Entry, way: _Way) -> Stored:
        try:
            async with connection.transaction():
                await self._pass_fence(connection, batch)
                stored, refused = await way(connection, batch.readings)
                sample = self._sampler.take(batch.letters(refused), batch.opened_at)
                rows = await _keep(connection, sample, keep_isolating if way is store_isolating else dead_letters.add)
                await journals.record(connection, self._journal, entry, stored)
                await announce(connection, self._interest, batch.readings)
        except (NumberTaken, UniqueViolation, DevicesDeleted):
            found = await journals.find(connection, self._journal)
            if found is None:  # a reading is there already, or a device is not
                raise
            _log.info("batch was committed already", batch_no=self._journal.next_no)
            return found
        self._sampler.remember(sample, rows)
        return stored

    async def _pass_fence(self, connection: Connection, batch: Batch) -> None:
        try:
            deleted = await self._devices.pass_fence(connection)
        except MarksMissed:
            self._missed_at, deleted = time.monotonic(), frozenset()
        if batch.looked_up_at <= self._missed_at:  # also a batch that was waiting, and another attempt of one
            deleted = batch.readings.devices()
        if deleted and not batch.readings.devices().isdisjoint(deleted):
            raise DevicesDeleted(deleted)


async def _keep(connection: Connection, sample: Sample, add: _Add) -> dict[int, int]:
    if sample.kept:
        await add(connection, sample.kept)
    return {key: await dead_letters.count(connection, omitted) for key, omitted in sample.omitted.items()}


async def _straight(connection: Connection, batch: Rows) -> tuple[Stored, list[RefusedRow]]:
    return await readings.store_new(connection, batch), []


async def _staged(connection: Connection, batch: Rows) -> tuple[Stored, list[RefusedRow]]:
    return await readings.store(connection, batch), []
