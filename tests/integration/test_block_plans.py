"""The statements of an analysis read blocks by their indexes, and of the rows only the month that is not sealed."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from query_api.statistics.blocks.reading.cover import ONE_PLAN
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import Limits, Needs, read_statistics
from query_api.statistics.blocks.sealing.merging import merge
from shared.postgres.connections import Connection, connect
from shared.readings.model import to_microseconds
from tests.blocks import SMALL, sealed
from tests.explained import Explained
from tests.reads import Watched
from tests.waiting import eventually

DEVICES, EACH = 300, 2_000
DEVICE = 42
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
LATER = datetime(2024, 4, 1, tzinfo=UTC)
STEP = timedelta(hours=1)
SEALED = FIRST + (EACH - 40) * STEP
TIMES = 7
NEEDS = Needs((0.5,), squares=True, deviations=True, ends=True)
"""After five executions PostgreSQL may change to a plan without values."""
MOST_ROWS = 120
"""Rows and index entries of a statement. The tables have some hundred times as many, and each device more."""

REGISTER = "INSERT INTO devices (id, key, name) SELECT n, n, n FROM generate_series(1, %s) AS n"
EXTENTS = "INSERT INTO device_extents SELECT id, %s, %s FROM devices"
MAKE_MONTHS = "SELECT ensure_readings_partition(%s + make_interval(months => n)) FROM generate_series(0, 23) AS n"
FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device, %s + n * %s, now(), sin(n) * 900, n %% 7, device
    FROM unnest(ARRAY[1, 42]) AS device, generate_series(0, %s - 1) AS n
"""
_BLOCK = (
    "level, first, last, count, merged, min_x, max_x, min_y, max_y, min_z, max_z, sum_x, sum_y, sum_z, squares_x, "
    "squares_y, squares_z, marks, times"
)
MULTIPLY: Sequence[bytes] = [
    f"INSERT INTO {table} (device_id, {columns}) SELECT n, {columns} FROM {table}, generate_series(2, %s) AS n".encode()  # noqa: S608  # constants
    for table, columns in {
        "sealed_devices": "announced, sealed, number",
        "sealed_until": "sealed",
        "blocks": _BLOCK,
        "block_values": "level, first, axis, coding, frame_bytes, sorted, guides",
        "block_columns": "level, first, axis, coding, frame_bytes, columns",
    }.items()
]


@pytest.mark.plain_only("the nodes' statistics of a transaction cannot be read")
async def test_an_analysis_reads_few_blocks_by_their_indexes(database: Connection) -> None:
    """One test, as filling the tables takes longer than all reads."""
    await fill(database)
    watched = Watched(database)
    for start, end in ((None, None), (FIRST + 10 * STEP, None), (FIRST + 100 * STEP, FIRST + 1500 * STEP)):
        for _ in range(TIMES):
            async with database.transaction():
                await database.execute(ONE_PLAN, prepare=False)
                await read(database, start, end)
    statements = {text for text in watched.reads if "FROM " in text}
    assert len(statements) == 6, "cover, tail, columns, guides, values, and the first and the last reading"
    for text in statements:
        for reads in watched.reads[text]:
            assert reads.rows <= MOST_ROWS, text
            assert not {table for table in reads.scanned if table.startswith(("block", "late", "readings"))}, text


async def fill(database: Connection) -> None:
    await database.execute(REGISTER, (DEVICES,))
    await database.execute(EXTENTS, (FIRST, LATER))
    await database.execute(MAKE_MONTHS, (FIRST,))
    await database.execute(FILL, (FIRST, STEP, EACH))
    await database.execute("INSERT INTO sealed_devices (device_id) VALUES (1)")
    await sealed(database, 1, to_microseconds(SEALED))
    await merge(database, 1, SMALL)
    for statement in MULTIPLY:
        await database.execute(statement, (DEVICES,))
    await database.execute("VACUUM ANALYZE")


async def read(database: Connection, start: datetime | None, end: datetime | None) -> None:
    items = Items.each([DEVICE], *(None if at is None else to_microseconds(at) for at in (start, end)))
    await read_statistics(database, items, NEEDS, layout=SMALL, limits=Limits(whole=0, few=0))


SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
PLANS = """
    SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE position('RECURSIVE node' IN statement) > 0
"""


@pytest.mark.plain_only("Citus has no plan without values, and plans each statement anew")
async def test_the_blocks_are_found_by_one_plan(database: Connection) -> None:
    """PostgreSQL would plan this statement anew each time. Other statements of the snapshot are planned by values."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (42, 'k', 'n')")
    for _ in range(TIMES):
        async with snapshot(database, ONE_PLAN):
            await read(database, None, None)
            assert await one(database, "SHOW plan_cache_mode") == ("auto",)
            assert await one(database, "SHOW enable_seqscan") == ("on",)
    assert await one(database, PLANS) == (TIMES, 0)


async def one(database: Connection, query: str) -> tuple[object, ...] | None:
    return await (await database.execute(query.encode(), prepare=False)).fetchone()


async def test_only_the_month_of_unsealed_readings_is_planned(database: Connection) -> None:
    await fill(database)
    explained = Explained(database)
    async with snapshot(database, ONE_PLAN):
        await read(database, None, None)
    tail, ends = explained.taken()
    assert tail.tables == {"readings_2024_03"}
    assert tail.rows_read == 40
    assert ends.rows_read == 2, "the first and the last reading"


async def test_a_failed_read_leaves_the_connection_usable(database: Connection) -> None:
    async def fail() -> None:
        async with snapshot(database):
            await database.execute("SELECT 1 / 0")

    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await fail()
        assert await one(database, "SHOW transaction_isolation") == ("read committed",)


async def test_a_cancelled_read_leaves_the_connection_usable(database: Connection, database_url: str) -> None:
    async def sleep() -> None:
        async with snapshot(database):
            await database.execute("SELECT pg_sleep(600)")

    async with await connect(database_url, "watching") as watching:
        reading = asyncio.create_task(sleep())
        await eventually(lambda: one(watching, SLEEPING), lambda found: found == (1,))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await one(database, "SHOW transaction_isolation") == ("read committed",)
        assert await one(watching, SLEEPING) == (0,)
