"""Empty months are dropped, and a reading that arrives for one of them meanwhile is stored."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from ingestor.batch import Batch
from ingestor.delivery.journal import Journal
from ingestor.devices import Devices
from query_api.worker.maintenance.partitions import MAX_EMPTY_DROPPED, drop_empty_partitions, make_partitions
from shared.postgres.connections import Connection, connect
from shared.readings.model import Reading, to_microseconds
from shared.readings.store import prepare
from tests.conftest import Database
from tests.ingestion import writer_of
from tests.roles import url_as
from tests.waiting import eventually

MONTH = "readings_2020_05"
MAY = datetime(2020, 5, 6, 7, 8, 9, tzinfo=UTC)
_MAKE = "SELECT ensure_readings_partition(%s)"
_MONTHS = r"SELECT relname FROM pg_class WHERE relname ~ '^readings_\d{4}_\d\d$' AND relkind = 'r' ORDER BY relname"
_DROP = "SELECT drop_empty_readings_month(%s)"
_WAITING = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database WHERE NOT granted AND datname = %s
"""


@pytest.fixture
async def worker(database_url: str) -> AsyncIterator[Connection]:
    """A connection with the role of the worker."""
    async with await connect(url_as(database_url, "worker"), "worker") as connection:
        yield connection


async def months(database: Connection) -> list[str]:
    return [row[0] for row in await (await database.execute(_MONTHS.encode())).fetchall()]


class Ingestor:
    """Stores batches of one reading each, and caches months as the ingestor does."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._journal = Journal("client")
        self._writer = writer_of(self._journal, Devices(register=False))

    async def __call__(self, x: int) -> None:
        batch, entry = Batch(), self._journal.next(bytes(6), held=0)
        batch.readings.append(Reading(1, to_microseconds(MAY), to_microseconds(MAY), x, 0, 0))
        await self._writer.store(self._connection, batch, entry)
        self._journal.append(entry)


@pytest.fixture
async def ingestor(database: Database, database_url: str) -> AsyncIterator[Ingestor]:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', 'Boiler')")
    async with await connect(url_as(database_url, "ingestor"), "ingestor") as connection:
        await prepare(connection)
        yield Ingestor(connection)


async def stored(database: Database) -> list[int]:
    """Return the stored readings, after a check that none was refused."""
    assert (await database.execute("SELECT FROM dead_letters")).rowcount == 0
    return [int(row[0]) for row in await (await database.execute("SELECT x FROM readings ORDER BY x")).fetchall()]


async def test_empty_months_are_dropped_and_others_are_not(
    database: Database, worker: Connection, ingestor: Ingestor
) -> None:
    await make_partitions(worker)
    expected = [MONTH, *await months(database)]
    await ingestor(1)
    await database.execute(_MAKE + ", " + _MAKE.removeprefix("SELECT "), ("2019-01-01", "2021-01-01"))
    assert await drop_empty_partitions(worker, pause_s=0) == ["readings_2019_01", "readings_2021_01"]
    assert await months(database) == expected
    assert await drop_empty_partitions(worker, pause_s=0) == []


async def test_the_number_of_months_that_one_run_drops_is_limited(database: Database, worker: Connection) -> None:
    many = "SELECT ensure_readings_partition(timestamptz '2010-01-01 UTC' + make_interval(months => n))"
    await database.execute(f"{many} FROM generate_series(0, {MAX_EMPTY_DROPPED + 4}) AS n".encode())
    assert len(await drop_empty_partitions(worker, pause_s=0)) == MAX_EMPTY_DROPPED
    assert len(await drop_empty_partitions(worker, pause_s=0)) == 5


async def test_a_writer_that_has_cached_the_month_creates_it_again(
    database: Database, worker: Connection, ingestor: Ingestor
) -> None:
    await ingestor(1)
    await database.execute("DELETE FROM readings")
    assert await drop_empty_partitions(worker, pause_s=0) == [MONTH]
    await ingestor(2)
    assert await stored(database) == [2]


async def test_an_uncommitted_reading_keeps_its_month(database: Database, worker: Connection) -> None:
    await database.execute(_MAKE, (MAY,))
    async with database.transaction():
        await database.execute(
            "INSERT INTO readings (device_id, recorded_at, received_at, x, y, z) VALUES (1, %s, %s, 1, 2, 3)",
            (MAY, MAY),
        )
        assert await drop_empty_partitions(worker, pause_s=0) == []
    assert await drop_empty_partitions(worker, pause_s=0) == []
    assert (await database.execute("SELECT FROM readings")).rowcount == 1


async def test_a_batch_that_waits_for_the_drop_is_stored(
    database: Database, worker: Connection, ingestor: Ingestor
) -> None:
    """The batch has found the month. When the lock is released, the month does not exist."""
    await ingestor(1)
    await database.execute("DELETE FROM readings")
    async with asyncio.TaskGroup() as tasks:
        async with worker.transaction():
            assert await (await worker.execute(_DROP, (MONTH,))).fetchone() == (True,)
            writing = tasks.create_task(ingestor(2))
            await eventually(lambda: _waiting(database), bool)
        await writing
    assert await stored(database) == [2]


async def test_a_request_that_waits_for_the_drop_is_stored(
    database: Database, worker: Connection, api: httpx.AsyncClient, device: int
) -> None:
    reading = {"device_id": device, "x": 1, "y": 2, "z": 3, "timestamp": MAY.isoformat()}
    assert (await api.post("/stats", json=reading)).status_code == 201
    await database.execute("DELETE FROM readings")
    async with asyncio.TaskGroup() as tasks:
        async with worker.transaction():
            assert await (await worker.execute(_DROP, (MONTH,))).fetchone() == (True,)
            posting = tasks.create_task(api.post("/stats", json=reading))
            await eventually(lambda: _waiting(database), bool)
        assert (await posting).status_code == 201
    assert await stored(database) == [1]


async def test_a_long_read_keeps_the_months_and_delays_nothing(
    database: Database, database_url: str, worker: Connection, ingestor: Ingestor
) -> None:
    """The lock is not available: the worker gives up within a tenth of a second, and the next run retries."""
    await database.execute(_MAKE, ("2019-01-01",))
    async with await connect(database_url, "reader") as reader:
        async with reader.transaction():
            await reader.execute("SELECT FROM readings")
            assert await drop_empty_partitions(worker, pause_s=0) == []
            await ingestor(1)
        assert await drop_empty_partitions(worker, pause_s=0) == ["readings_2019_01"]
    assert await stored(database) == [1]


async def _waiting(database: Database) -> int:
    row = await (await database.execute(_WAITING, (database.info.dbname,))).fetchone()
    assert row is not None
    return int(row[0])
