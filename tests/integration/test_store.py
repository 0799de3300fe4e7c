"""The way of a batch into the table: directly if all readings are new, else through the staging table."""

import asyncio
from collections.abc import Sequence

import pytest

from ingestor.batch import Batch
from ingestor.delivery import journal as journals
from ingestor.delivery.journal import Entry, Journal
from ingestor.devices import Devices
from ingestor.storing import writer
from ingestor.storing.writer import STAGED_BATCHES
from shared.errors import SessionTakenOver
from shared.postgres.connections import Connection, connect
from shared.readings import store as readings
from shared.readings.announcements import Announcements
from shared.readings.model import SECOND, Reading
from shared.readings.partitions import Partitions
from shared.readings.store import Stored, prepare
from tests.conftest import Database
from tests.ingestion import writer_of
from tests.waiting import eventually

SPAN_HERE = 5
NOON = 1_769_860_800 * SECOND


def reading(number: int) -> Reading:
    return Reading(1, NOON + number, NOON, number / 1000, 0, 0)


class Stores:
    """Stores batches as the writer does, one after the other."""

    def __init__(self, connection: Connection) -> None:
        self.journal = Journal("client", span=SPAN_HERE)
        self._connection = connection
        self._writer = writer_of(self.journal, Devices(register=False))

    async def __call__(self, *numbers: int) -> Stored:
        batch = Batch()
        batch.readings += map(reading, numbers)
        packets = bytes(6 * len(numbers))
        entry = self.journal.next(packets, held=0)
        stored = await self._writer.store(self._connection, batch, entry)
        self.journal.append(entry)
        return stored


@pytest.fixture
async def stores(database: Database) -> Stores:
    await prepare(database)
    return Stores(database)


@pytest.fixture
def straight(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of the batches that were copied directly."""
    sizes = []

    async def seen(connection: Connection, batch: Sequence[Reading], announcements: Announcements) -> Stored:
        sizes.append(len(batch))
        return await store_new(connection, batch, announcements)

    store_new = readings.store_new
    monkeypatch.setattr(writer.readings, "store_new", seen)
    return sizes


async def rows(database: Database) -> list[int]:
    cursor = await database.execute("SELECT round(x * 1000)::int FROM readings ORDER BY x")
    return [row[0] for row in await cursor.fetchall()]


async def test_an_entry_of_the_journal_is_read_as_it_was_written(stores: Stores, database: Database) -> None:
    journal = stores.journal
    journal.packet_ids.in_sequence = True
    written = [journal.beginning(), Entry(2, bytes(12), held=1), Entry(3, b"", in_sequence=False)]
    for entry in written:
        await journals.record(database, journal, entry, Stored(0, 0))
    read = Journal("client")
    await journals.load(database, read)
    assert list(read._entries) == written


async def test_what_is_there_already_is_counted_and_not_stored_again(stores: Stores, database: Database) -> None:
    assert await stores(1, 2, 3) == Stored(3, 0)
    assert await stores(3, 4, 5) == Stored(2, 1)
    assert await stores(6, 6, 7) == Stored(2, 1)
    assert await stores(8) == Stored(1, 0)
    assert await rows(database) == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_batch_is_inserted_device_by_device(database: Database) -> None:
    given = [Reading(device, NOON + number, NOON, number, 0, 0) for number, device in enumerate([7, 3, 7, 5, 3])]
    await Partitions().ensure(database, given)
    async with database.transaction():
        assert await readings.store_new(database, given, Announcements()) == Stored(5, 0)
    cursor = await database.execute("SELECT device_id, x::int FROM readings ORDER BY id")
    assert await cursor.fetchall() == [(3, 1), (3, 4), (5, 3), (7, 0), (7, 2)]


async def test_after_a_conflict_the_straight_way_is_left_alone_for_a_while(
    stores: Stores, straight: list[int], database: Database
) -> None:
    await stores(1)
    await stores(1, 2)
    assert straight == [1, 2]
    for number in range(STAGED_BATCHES):
        await stores(1, 10 + number)
    assert straight == [1, 2]
    await stores(3, 4, 5)
    assert straight == [1, 2, 3]
    assert len(await rows(database)) == 5 + STAGED_BATCHES


@pytest.mark.plain_only("a COPY waits on a node, so pg_locks of the coordinator does not show it")
async def test_readings_that_another_stores_in_another_order_at_the_same_time(
    stores: Stores, database: Database, database_url: str
) -> None:
    """The two wait for each other. PostgreSQL cancels the batch, which then goes through the staging table."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"

    async with await connect(database_url, "other") as other, await connect(database_url, "watch") as watch:

        async def waits() -> int:
            (row,) = await (await watch.execute(waiting, (database.info.backend_pid,))).fetchall()
            return int(row[0])

        await Partitions().ensure(other, [reading(1)])
        await other.execute("SET deadlock_timeout = '60s'")
        async with asyncio.TaskGroup() as group, other.transaction():
            await readings.store_new(other, [reading(1)], Announcements())
            ours = group.create_task(stores(2, 1))
            await eventually(waits, bool)
            await readings.store_new(other, [reading(2)], Announcements())
    assert ours.result() == Stored(0, 2)
    assert await rows(database) == [1, 2]


async def test_an_older_ingestor_finds_its_number_taken_also_when_that_entry_is_gone(
    stores: Stores, database: Database
) -> None:
    newer = Stores(database)
    await stores(1)
    await journals.load(database, newer.journal)
    for number in range(2, 20):
        await newer(number)
    cursor = await database.execute("SELECT min(batch_no) FROM ingest_journal")
    assert (await cursor.fetchone() or (0,))[0] > stores.journal.next_no
    with pytest.raises(SessionTakenOver):
        await stores(100)
    assert await rows(database) == list(range(1, 20))


async def test_one_that_was_given_up_finds_its_number_taken(stores: Stores, database: Database) -> None:
    await stores(1)
    await journals.give_up(database, "client")
    with pytest.raises(SessionTakenOver):
        await stores(2)
    assert await rows(database) == [1]


async def test_a_batch_that_was_committed_already_is_found(stores: Stores, database: Database) -> None:
    again = Stores(database)
    again.journal.writer = stores.journal.writer  # the same ingestor, which received no answer to its COMMIT
    assert await stores(1, 2) == Stored(2, 0)
    assert await again(1, 2) == Stored(2, 0)
    assert await rows(database) == [1, 2]
