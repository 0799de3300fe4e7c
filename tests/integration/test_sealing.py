"""Readings become blocks: each is in exactly one, whatever is stored when (ADR 41)."""

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from psycopg.errors import SerializationFailure

from query_api.statistics.blocks.building import Axis, Columns, Key
from query_api.statistics.blocks.layout import STANDARD, TOP, Layout
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.retiring import retire_device
from query_api.statistics.blocks.sealing.settling import settle
from query_api.statistics.blocks.tables import insert_axis, read_sorted
from shared.postgres.connections import Connection, connect
from shared.readings.model import DAY, SECOND, Microseconds, to_datetime, to_microseconds
from tests.blocks import SMALL, assert_sealed, sealed, stored
from tests.conftest import Database

START = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))
HOUR = 3600 * SECOND


def readings(count: int, step: int = HOUR, start: int = START, seed: int = 1) -> Columns:
    rng = np.random.default_rng(seed)
    x, y, z = rng.normal(0, 100, count), np.round(rng.normal(5, 1, count), 1), rng.choice([0.0, -0.0, 1.0], count)
    return Columns.ordered(start + step * np.arange(count), x, y, z)


async def test_readings_become_blocks_of_all_levels(database: Database) -> None:
    given = readings(1000, 60 * SECOND)
    await stored(database, 1, given)

    assert await sealed(database, 1, given.last + 1) == 1000
    minis, base, *above = await assert_sealed(database, 1)
    assert (minis, above) == (1, [0, 0])
    assert 40 < base < 130
    assert await merge(database, 1, SMALL) > 0
    counts = await assert_sealed(database, 1)

    assert min(counts[1:]) > 0
    assert await merge(database, 1, SMALL) == 0


async def test_what_was_not_announced_stays_in_rows(database: Database) -> None:
    given = readings(100)
    await stored(database, 1, given)
    assert await sealed(database, 1, int(given.times[60])) == 60
    await assert_sealed(database, 1)
    assert await sealed(database, 1, int(given.times[60])) == 0


async def test_minis_are_absorbed(database: Database) -> None:
    given = readings(40, SECOND)
    for at in range(0, 40, 4):
        await stored(database, 1, given[at : at + 4])
        await sealed(database, 1, given[at : at + 4].last + 1)
        minis, base, *_ = await assert_sealed(database, 1)
        assert minis <= 4
    assert base == 3


async def mini_between_merged_blocks(database: Database) -> Microseconds:
    """Return the time of the first reading of a mini block. Late readings have made the one behind it a base block."""
    given = readings(24, 60 * SECOND)
    await stored(database, 1, given)
    await sealed(database, 1, given.last + 1)
    assert (await assert_sealed(database, 1))[:2] == [1, 1]
    for more in (readings(4, 60 * SECOND, given.last + HOUR), readings(150, SECOND, given.last + HOUR + SECOND)):
        await stored(database, 1, more)
        await sealed(database, 1, given.last + 2 * HOUR)
        await settle(database, 1, SMALL)
    minis, *_ = await assert_sealed(database, 1)
    assert minis == 1
    assert await merge(database, 1, SMALL) > 0
    (first,) = await (await database.execute("SELECT first FROM blocks WHERE level = 0")).fetchone() or (None,)
    return to_microseconds(first)


async def test_a_mini_stays_between_merged_blocks(database: Database) -> None:
    await mini_between_merged_blocks(database)
    await assert_sealed(database, 1)


_ABOVE_MINIS = "SELECT level, first, merged, xmin::text FROM blocks WHERE level > 0 ORDER BY level, first"


async def test_settling_a_mini_between_merged_blocks_keeps_these(database: Database) -> None:
    at = await mini_between_merged_blocks(database)
    before = await (await database.execute(_ABOVE_MINIS)).fetchall()
    await stored(database, 1, readings(2, SECOND, at + 1))
    assert await settle(database, 1, SMALL) == 2
    assert await (await database.execute(_ABOVE_MINIS)).fetchall() == before
    await assert_sealed(database, 1)


async def test_a_mini_between_merged_blocks_that_grows_is_merged(database: Database) -> None:
    at = await mini_between_merged_blocks(database)
    await stored(database, 1, readings(30, SECOND, at + 1))
    assert await settle(database, 1, SMALL) == 30
    assert (await assert_sealed(database, 1))[0] == 0
    assert await merge(database, 1, SMALL) > 0
    await assert_sealed(database, 1)


async def test_the_minis_of_a_month_that_ended_become_base_blocks(database: Database) -> None:
    given = readings(10, 12 * HOUR)
    await stored(database, 1, given)
    await sealed(database, 1, START + DAY)
    assert await assert_sealed(database, 1) == [1, 0, 0, 0]
    await sealed(database, 1, given.last + 1)
    assert await assert_sealed(database, 1) == [1, 1, 0, 0]


async def test_many_readings_of_one_moment_are_sealed_together(database: Database) -> None:
    given = Columns.ordered(np.full(100, START), np.arange(100.0), np.zeros(100), np.zeros(100))
    await stored(database, 1, given)
    assert await sealed(database, 1, START + 1, step=10) == 100
    assert (await assert_sealed(database, 1))[1] == 1


async def test_late_readings_are_settled(database: Database) -> None:
    """Before all blocks, between two, within one, behind the last one, and in a month without a block."""
    given = readings(400, 600 * SECOND)
    await stored(database, 1, given)
    await sealed(database, 1, given.last + DAY)
    await merge(database, 1, SMALL)
    times = [START - 70 * DAY, START - 1, START + 1, START + 77, given.last + 5, given.last + 6, given.last + 2 * DAY]
    late = Columns.ordered(np.array(times), *np.random.default_rng(3).normal(0, 1, (3, len(times))))
    await stored(database, 1, late)
    await assert_sealed(database, 1)

    assert await settle(database, 1, SMALL) == 6

    await assert_sealed(database, 1)
    await merge(database, 1, SMALL)
    await assert_sealed(database, 1)
    assert await settle(database, 1, SMALL) == 0
    assert (await (await database.execute("SELECT count(*) FROM late_readings")).fetchone()) == (0,)


@pytest.mark.parametrize("seed", range(12))
async def test_any_order_of_storing_and_sealing(database: Database, seed: int) -> None:
    chance, rng = random.Random(seed), np.random.default_rng(seed)
    step = chance.choice([1, 1000, SECOND, 61 * SECOND, HOUR, 9 * HOUR])
    count = chance.choice([3, 50, 300, 900])
    times = START + step * rng.integers(0, count, count)
    values = rng.choice([0.0, -0.0, 1.0, 2.5], (3, count)) if chance.random() < 0.3 else rng.normal(0, 9, (3, count))
    left = np.unique(np.stack((times.astype(float), *values)), axis=1)
    left = left[:, rng.permutation(left.shape[1])]
    while left.shape[1]:
        some, left = np.split(left, [chance.choice([1, 7, 200])], axis=1)
        await stored(database, 1, Columns.ordered(some[0].astype(np.int64), *some[1:]))
        if chance.random() < 0.7:
            until = int(chance.choice(times)) + chance.choice([0, 1, HOUR])
            await sealed(database, 1, until, step=chance.choice([5, 100, 1000]))
        for act in (merge, settle, merge):
            if chance.random() < 0.4:
                await act(database, 1, SMALL)
    await assert_sealed(database, 1)


@pytest.mark.parametrize("act", [merge, settle])
async def test_a_worker_that_waits_does_not_use_its_older_snapshot(
    database: Database, database_url: str, act: Callable[[Connection, int, Layout], Awaitable[int]]
) -> None:
    """The snapshot of a transaction is older than its lock: without an error it would build the same blocks again."""
    given = readings(100, 60 * SECOND)
    await stored(database, 1, given)
    await sealed(database, 1, given.last + 1)
    await stored(database, 1, readings(3, 60 * SECOND, START + SECOND, seed=2))
    async with await connect(database_url, "other worker") as other, other.transaction():
        await other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await other.execute("SELECT FROM blocks")
        assert await act(database, 1, SMALL) > 0
        with pytest.raises(SerializationFailure):
            await other.execute("SELECT FROM sealed_devices WHERE device_id = 1 FOR UPDATE")
    await assert_sealed(database, 1)


async def test_an_operator_unseals_readings(database: Database) -> None:
    given = readings(700, 900 * SECOND)
    await stored(database, 1, given)
    await sealed(database, 1, given.last + 1)
    await merge(database, 1, SMALL)
    moment = to_datetime(int(given.times[400]))
    await database.execute("DELETE FROM readings WHERE recorded_at > %s", (moment,))

    row = await (await database.execute("SELECT unseal_readings(1, %s)", (moment,))).fetchone()

    assert row is not None
    assert row[0] <= moment
    counts = await assert_sealed(database, 1)
    assert counts[1] > 10
    await sealed(database, 1, given.last + 1)
    await merge(database, 1, SMALL)
    await assert_sealed(database, 1)


async def test_the_blocks_of_a_device_are_deleted(database: Database) -> None:
    for device in (1, 2):
        given = readings(200)
        await stored(database, device, given)
        await sealed(database, device, given.last + 1)
        await stored(database, device, readings(3, start=START + 1))
    while await retire_device(database, 1, 5):
        pass

    for table in ("sealed_devices", "late_readings", "blocks", "block_values", "block_columns"):
        cursor = await database.execute(f"SELECT DISTINCT device_id FROM {table}".encode())  # noqa: S608
        assert await cursor.fetchall() == [(2,)]
    await assert_sealed(database, 2)


async def test_the_values_of_an_axis_are_sent_in_parts(database: Database) -> None:
    axis = Axis.of(np.random.default_rng(1).normal(size=300_000))
    key = Key(42, TOP, START)
    await insert_axis(database, key, 2, axis, STANDARD)
    query = "SELECT device_id, level, first, axis FROM block_values"
    assert await (await database.execute(query)).fetchall() == [(42, TOP, to_datetime(START), 2)]
    assert np.array_equal(await read_sorted(database, key, 2, 300_000, STANDARD), axis.values)
    ((guides,),) = await (await database.execute("SELECT guides FROM block_values", binary=True)).fetchall()
    assert bytes(guides) == axis.guides(STANDARD).tobytes()
