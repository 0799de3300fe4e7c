"""Retention drops a month amid its steps, with readers: an analysis equals a scan in its snapshot (ADR 41)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import Needs, read_statistics
from query_api.statistics.blocks.sealing.settling import settle
from query_api.worker.maintenance.partitions import drop_partitions
from shared.postgres.connections import Connection, connect
from shared.readings.model import DAY, SECOND, to_microseconds
from tests.blocks import SMALL, assert_sealed, sealed, stored
from tests.conftest import Database
from tests.roles import url_as
from tests.waiting import HANG_S, eventually

START = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))
OLD = START - 300 * DAY
"""In a month that retention drops."""
EDGE = datetime(2025, 12, 31, tzinfo=UTC)
BOTH, REST = 600 + 50, 50
"""Readings with those of the month, and without."""
TABLES = ("late_readings", "blocks", "block_values", "block_columns")


def readings(count: int, start: int) -> Columns:
    return Columns(start + SECOND * np.arange(count), *np.random.default_rng(count).normal(0, 1, (3, count)))


@pytest.fixture
async def half_sealed(database: Database) -> Connection:
    """A device of which half of the month is sealed, with late readings."""
    await stored(database, 1, readings(590, OLD))
    await stored(database, 1, readings(REST, START))
    await sealed(database, 1, OLD + 300 * SECOND)
    await stored(database, 1, readings(10, OLD + 7))
    return database


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with asyncio.timeout(HANG_S), AsyncExitStack() as stack:
        yield stack


async def counts(connection: Connection) -> tuple[int, int]:
    """The number of readings by an analysis and by a scan, in the caller's snapshot."""
    found = await read_statistics(connection, Items.together([1], None, None), Needs((0.5,)), layout=SMALL)
    assert found.groups[0] is not None
    row = await (await connection.execute("SELECT count(*) FROM readings WHERE device_id = 1")).fetchone()
    assert row is not None
    return found.groups[0][0].count, row[0]


async def now(connection: Connection) -> tuple[int, int]:
    """The same in a new snapshot."""
    async with snapshot(connection):
        return await counts(connection)


class Earlier:
    """A reader whose snapshot is of the time of its creation."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def counts(self) -> tuple[int, int]:
        return await counts(self._connection)


async def earlier(stack: AsyncExitStack, url: str) -> Earlier:
    connection = await stack.enter_async_context(await connect(url_as(url, "api"), "reader"))
    await stack.enter_async_context(snapshot(connection))
    await connection.execute("SELECT FROM devices")
    return Earlier(connection)


@contextmanager
def dropping(connection: Connection) -> Iterator["asyncio.Task[list[str]]"]:
    task = asyncio.create_task(drop_partitions(connection, datetime.now(UTC) - EDGE), name="retention")
    yield task
    task.cancel()


_WAITING = """
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'devicestat retention' AND wait_event_type = 'Lock'
"""
_PENDING = "SELECT FROM pg_inherits WHERE inhdetachpending"
_DETACHED = """
    SELECT FROM pg_class LEFT JOIN pg_inherits ON inhrelid = oid WHERE relname = 'readings_2025_04' AND inhrelid IS NULL
"""
_SEALER = "LOCK TABLE retiring_months IN ROW EXCLUSIVE MODE"
"""As a worker that builds blocks holds it."""
_END = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'devicestat retention'
"""


async def until(database: Connection, *conditions: str) -> None:
    """Wait until each of the queries has a row."""
    for condition in conditions:
        await eventually(lambda query=condition: database.execute(query.encode()), lambda found: found.rowcount == 1)  # type: ignore[misc]


async def retention(stack: AsyncExitStack, url: str) -> Connection:
    return await stack.enter_async_context(await connect(url_as(url, "worker"), "retention"))


async def test_detach_waits_for_its_lock(half_sealed: Connection, database_url: str, stack: AsyncExitStack) -> None:
    """As during ANALYZE readings: the month is complete until then."""
    worker = await retention(stack, database_url)
    async with await connect(database_url, "analyze") as other:
        async with other.transaction():
            await other.execute("LOCK TABLE readings IN SHARE UPDATE EXCLUSIVE MODE")
            task = asyncio.create_task(drop_partitions(worker, datetime.now(UTC) - EDGE), name="retention")
            await until(half_sealed, _WAITING)
            assert await now(half_sealed) == (BOTH, BOTH)
        assert await task == ["readings_2025_04"]
    assert await now(half_sealed) == (REST, REST)


async def test_each_snapshot_has_the_month_or_does_not(
    half_sealed: Connection, database_url: str, stack: AsyncExitStack
) -> None:
    """Each step of retention, with readers from before it, and killed workers."""
    worker = await retention(stack, database_url)
    async with AsyncExitStack() as before:
        first = await earlier(before, database_url)
        with dropping(worker) as task:
            await until(half_sealed, _PENDING, _WAITING)
            assert await now(half_sealed) == (REST, REST)
            assert await first.counts() == (BOTH, BOTH)

            await half_sealed.execute(_END)
            with pytest.raises(psycopg.OperationalError):
                await task
        assert await now(half_sealed) == (REST, REST)
        assert await first.counts() == (BOTH, BOTH)

        second = await earlier(before, database_url)
        worker = await retention(stack, database_url)
        sealer = await stack.enter_async_context(await connect(database_url, "sealer"))
        finalizing = asyncio.create_task(drop_partitions(worker, datetime.now(UTC) - EDGE), name="retention")
        await until(half_sealed, _WAITING)
        assert await now(half_sealed) == (REST, REST)
        assert [await one.counts() for one in (first, second)] == [(BOTH, BOTH), (REST, REST)]
        sealing = await stack.enter_async_context(AsyncExitStack())
        await sealing.enter_async_context(sealer.transaction())
        await sealer.execute(_SEALER)
    await until(half_sealed, _DETACHED, _WAITING)
    assert await now(half_sealed) == (REST, REST)
    third = await earlier(stack, database_url)
    await sealing.aclose()
    assert await finalizing == ["readings_2025_04"]
    assert await third.counts() == (REST, REST)
    assert await now(half_sealed) == (REST, REST)
    for table in TABLES:
        cursor = await half_sealed.execute(f"SELECT FROM {table}".encode())
        assert cursor.rowcount == 0, table
    await assert_sealed(half_sealed, 1)


async def test_readings_are_sealed_and_settled_while_retention_waits_for_a_reader(
    half_sealed: Connection, database_url: str, stack: AsyncExitStack
) -> None:
    await stored(half_sealed, 2, readings(300, START))
    worker = await retention(stack, database_url)
    async with AsyncExitStack() as before:
        await earlier(before, database_url)
        with dropping(worker) as task:
            await until(half_sealed, _PENDING, _WAITING)
            assert await sealed(half_sealed, 2, START + 300 * SECOND) == 300
            await stored(half_sealed, 2, readings(5, START + 7))
            assert await settle(half_sealed, 2, SMALL) == 5
            await before.aclose()
            assert await task == ["readings_2025_04"]
    assert sum(await assert_sealed(half_sealed, 2)) > 10
