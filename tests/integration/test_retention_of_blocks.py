"""Retention drops a month amid its steps, with readers: an analysis equals a scan in its snapshot (ADR 41)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, cast

import numpy as np
import psycopg
import pytest
from psycopg.errors import SerializationFailure

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import Needs, read_statistics
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.retiring import delete_month
from query_api.statistics.blocks.sealing.sealed_device import locked
from query_api.statistics.blocks.sealing.settling import settle
from query_api.worker.maintenance.partitions import drop_partitions
from shared.postgres.connections import Connection, connect
from shared.readings.model import DAY, SECOND, to_microseconds
from tests import citus
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
NONE = 99
"""A device without readings."""
TABLES = ("late_readings", "blocks", "block_values", "block_columns")


def readings(count: int, start: int) -> Columns:
    return Columns(start + SECOND * np.arange(count), *np.random.default_rng(count).normal(0, 1, (3, count)))


@pytest.fixture
async def half_sealed(database: Database) -> Connection:
    """A device of which half of the month is sealed, with late readings, and one without readings."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (%s, 'none', 'n')", (NONE,))
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
    """The number of readings by an analysis of the device, alone and with another, and by a scan; in one snapshot."""
    found = [
        await read_statistics(connection, Items.together(some, None, None), Needs((0.5,)), layout=SMALL)
        for some in ([1], [1, NONE])
    ]
    alone, together = (one.groups[0][0].count if one.groups[0] else 0 for one in found)
    assert alone == together
    row = await (await connection.execute("SELECT count(*) FROM readings WHERE device_id = 1")).fetchone()
    assert row is not None
    return alone, row[0]


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
_WAITING_ON_NODE = "SELECT 1 FROM citus_lock_waits"
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


async def test_a_month_is_dropped_after_the_snapshots_that_contain_it(
    half_sealed: Connection, database_url: str, stack: AsyncExitStack
) -> None:
    worker = await retention(stack, database_url)
    async with AsyncExitStack() as before:
        first = await earlier(before, database_url)
        with dropping(worker) as task:
            await until(half_sealed, _WAITING)
            for _ in range(20):
                assert await now(half_sealed) in {(BOTH, BOTH), (REST, REST)}
                assert await first.counts() == (BOTH, BOTH)
            await before.aclose()
            assert await task == ["readings_2025_04"]
    assert await now(half_sealed) == (REST, REST)
    for table in TABLES:
        cursor = await half_sealed.execute(f"SELECT device_id FROM {table}".encode())  # noqa: S608  # constants
        assert cursor.rowcount == 0, table
    await assert_sealed(half_sealed, 1)


@pytest.mark.plain_only("Citus detaches a month in one step, not in two with readers between them")
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
            await until(half_sealed, *(() if citus.WORKERS else (_PENDING,)), _WAITING)
            assert await sealed(half_sealed, 2, START + 300 * SECOND) == 300
            await stored(half_sealed, 2, readings(5, START + 7))
            assert await settle(half_sealed, 2, SMALL) == 5
            await before.aclose()
            assert await task == ["readings_2025_04"]
    assert sum(await assert_sealed(half_sealed, 2)) > 10


_HELD = (
    "SELECT (SELECT count(*) FROM blocks), (SELECT count(*) FROM block_values), (SELECT count(*) FROM block_columns)"
)
MONTH = "readings_2025_04"


async def held(connection: Connection) -> tuple[int, ...]:
    row = await (await connection.execute(_HELD)).fetchone()
    assert row is not None
    return row


async def detached(database: Connection) -> None:
    """Detach the month as retention does, and no more."""
    await database.execute("INSERT INTO retiring_months (name) VALUES (%s)", (MONTH,))
    concurrently = "" if citus.WORKERS else "CONCURRENTLY"
    await database.execute(f"ALTER TABLE readings DETACH PARTITION {MONTH} {concurrently}".encode())


@pytest.mark.plain_only("the steps of a cluster are its devices, not pages of a table")
@pytest.mark.parametrize(("blocks", "late", "pages"), [(1, 1, 1), (3, 4, 1000), (20, 10_000, 1000)])
async def test_the_blocks_of_a_month_are_deleted_in_steps(
    half_sealed: Connection, database_url: str, stack: AsyncExitStack, blocks: int, late: int, pages: int
) -> None:
    """Those of other months stay. A scan equals an analysis after each step, in snapshots from before and after."""
    await merge(half_sealed, 1, SMALL)
    await stored(half_sealed, 2, readings(100, START))
    await sealed(half_sealed, 2, START + 100 * SECOND)
    await detached(half_sealed)
    steps = NotedSteps(await retention(stack, database_url), half_sealed)
    before = await earlier(stack, database_url)
    await delete_month(cast("Connection", steps), MONTH, blocks, late, pages)
    assert await before.counts() == (REST, REST)
    assert set(steps.counts) == {(REST, REST)}
    most = [before - after for before, after in pairwise(steps.held)]
    assert max(most) <= blocks
    assert len(steps.held) > steps.held[0] / 2 / blocks
    assert (await (await half_sealed.execute("SELECT count(*) FROM late_readings")).fetchone()) == (0,)
    rows, values, columns = await held(half_sealed)
    assert (values, columns) == (3 * rows, 5 * rows)
    await half_sealed.execute("SELECT drop_readings_month(%s)", (MONTH,))
    await assert_sealed(half_sealed, 1)
    assert sum(await assert_sealed(half_sealed, 2)) == rows


class NotedSteps:
    """A connection that notes, after each statement, the number of blocks, and what an analysis counts."""

    def __init__(self, connection: Connection, beside: Connection) -> None:
        self.connection = connection
        self._beside = beside
        self.held: list[int] = []
        self.counts: list[tuple[int, int]] = []

    async def execute(self, statement: bytes, *arguments: Any, **options: Any) -> Any:
        if not self.held:
            self.held.append((await held(self._beside))[0])
        cursor = await self.connection.execute(statement, *arguments, **options)
        self.held.append((await held(self._beside))[0])
        self.counts.append(await now(self._beside))
        return cursor


async def test_a_worker_that_changes_deleted_blocks_fails(half_sealed: Connection, database_url: str) -> None:
    """Its snapshot is from before the step."""
    await detached(half_sealed)
    async with await connect(url_as(database_url, "worker"), "merging") as merging:

        async def merge_meanwhile() -> None:
            async with locked(merging, 1):
                await held(merging)
                await delete_month(half_sealed, MONTH)
                await merging.execute("UPDATE blocks SET merged = true WHERE device_id = 1")

        with pytest.raises(SerializationFailure):
            await merge_meanwhile()
    assert await held(half_sealed) == (0, 0, 0)


async def test_blocks_that_a_worker_has_changed_are_deleted_at_last(
    half_sealed: Connection, database_url: str, stack: AsyncExitStack
) -> None:
    """A step waits for the worker, and passes over its blocks."""
    await detached(half_sealed)
    worker = await retention(stack, database_url)
    async with await connect(url_as(database_url, "worker"), "merging") as merging:
        async with locked(merging, 1):
            await merging.execute("UPDATE blocks SET merged = true WHERE device_id = 1")
            deleting = asyncio.create_task(delete_month(worker, MONTH), name="steps")
            await until(half_sealed, _WAITING_ON_NODE if citus.WORKERS else _WAITING)
        await deleting
    assert await now(half_sealed) == (REST, REST)
    await half_sealed.execute("SELECT drop_readings_month(%s)", (MONTH,))
    await assert_sealed(half_sealed, 1)
    assert await held(half_sealed) == (0, 0, 0)
