"""No device holds up the others: a locked, damaged or idle one, or one with late readings in many blocks (ADR 41)."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from query_api.statistics.blocks.layout import BASE
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.settling import settle
from query_api.worker.maintenance.duty import Duty
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.sealing import LOOK_AT_ONCE, SOONEST_S, Sealing
from query_api.worker.settling import Settling
from shared.postgres import arrays
from shared.postgres.connections import connect
from shared.readings.model import DAY, SECOND
from tests.blocks import SMALL, assert_sealed, sealed, stored
from tests.conftest import Database
from tests.integration.test_sealing_rounds import START, counts, late, readings, value_of
from tests.waiting import HANG_S

LOCK = "SELECT FROM sealed_devices WHERE device_id = %s FOR UPDATE"
FAILURES = "devicestat_worker_sealing_failures_total"


@pytest.fixture
def worker() -> Sealing:
    return Sealing(WorkerMetrics(), SMALL, margin=timedelta(minutes=5), share=1.0)


@pytest.fixture
def settler(worker: Sealing) -> Settling:
    """Settles all late readings."""
    return Settling(worker._metrics, SMALL, settle_after=timedelta(), share=1.0)


async def test_a_locked_device_holds_up_no_other(
    database: Database, database_url: str, worker: Sealing, settler: Settling
) -> None:
    """An operator's transaction has locked it. Its late readings, and those to seal, wait."""
    for device in (1, 2, 3):
        await stored(database, device, readings(100))
    async with await connect(database_url, "operator") as operator:
        async with asyncio.timeout(HANG_S), operator.transaction():
            await operator.execute(LOCK, (2,))
            await worker.seal(database)
            assert [count > 5 for count in await counts(database, [1, 2, 3])] == [True, False, True]
        await worker.seal(database)
        assert (await counts(database, [2]))[0] > 5
        for device in (1, 2, 3):
            await stored(database, device, readings(1, start=START + 7))
        async with asyncio.timeout(HANG_S), operator.transaction():
            await operator.execute(LOCK, (2,))
            await settler.settle(database)
            assert await late(database) == [2]
            assert await settle(database, 2, SMALL) is None
    assert await noted(database) == [], "since when it has late readings could not be noted"
    await settler.settle(database)
    assert await late(database) == []


async def noted(database: Database) -> list[int]:
    """The devices of which is noted since when they have late readings."""
    rows = await database.execute("SELECT device_id FROM sealed_devices WHERE late_since IS NOT NULL ORDER BY 1")
    return [row[0] for row in await rows.fetchall()]


async def damage(database: Database, device: int) -> None:
    """Lose the columns and the values of all blocks: more than are built anew in a round."""
    await stored(database, device, readings(400))
    await sealed(database, device, START + 396 * SECOND)
    await database.execute("DELETE FROM block_columns WHERE device_id = %s", (device,))
    await database.execute("DELETE FROM block_values WHERE device_id = %s", (device,))


async def test_a_damaged_block_holds_up_no_other_device(database: Database, worker: Sealing, settler: Settling) -> None:
    await damage(database, 1)
    await stored(database, 1, readings(200, start=START + 500 * SECOND))
    await stored(database, 2, readings(100))
    await worker.seal(database)
    assert (await counts(database, [2]))[0] > 5
    assert value_of(worker, FAILURES) == 1
    assert await due_within(database, SOONEST_S) == 0

    for device in (1, 2):
        await stored(database, device, readings(1, start=START + 7))
    for _ in range(2):
        await settler.settle(database)
    assert await late(database) == []
    assert await noted(database) == [1], "its blocks cannot be merged"
    assert value_of(worker, FAILURES) == 2, "it is not tried again at once"


async def due_within(database: Database, seconds: float) -> int:
    query = "SELECT FROM sealed_devices WHERE look_at <= now() + make_interval(secs => %s)"
    return (await database.execute(query, (seconds,))).rowcount


async def test_a_lost_connection_ends_the_round(
    database: Database, database_url: str, worker: Sealing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(connection: Database, *_: object) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr("query_api.worker.sealing.seal_step", lose)
    await stored(database, 1, readings(100))
    async with await connect(database_url, "worker") as connection:
        with pytest.raises(psycopg.OperationalError):
            await worker.seal(connection)
    assert value_of(worker, FAILURES) == 0
    assert await due_within(database, 0) == 1


async def test_a_settlement_builds_few_blocks_at_once(database: Database) -> None:
    given = readings(2000)
    await stored(database, 1, given)
    await sealed(database, 1, given.last + 1)
    await merge(database, 1, SMALL)
    cursor = await arrays.cursor(database).execute("SELECT first FROM blocks WHERE level = %s", (BASE,))
    blocks = await cursor.fetchall()
    assert len(blocks) > 80
    for (first,) in blocks:
        await stored(database, 1, readings(1, start=first + 7))
    assert await settle(database, 1, SMALL, spans=5) == 5
    await assert_sealed(database, 1)
    steps = [5]
    while settled := await settle(database, 1, SMALL):
        steps.append(settled)
        await merge(database, 1, SMALL)
        await assert_sealed(database, 1)
    assert sum(steps) == len(blocks)
    assert len(steps) > 3


async def test_a_settlement_that_a_round_ended_is_continued(database: Database, settler: Settling) -> None:
    """Its late readings are in blocks, which are merged by later rounds."""
    given = readings(2000)
    await stored(database, 1, given)
    await sealed(database, 1, given.last + 1)
    await stored(database, 1, readings(1, start=START + 7))
    assert await settle(database, 1, SMALL) == 1
    await database.execute("UPDATE sealed_devices SET late_since = now()")
    await settler._settle_one(database, 1, Duty(share=1.0), ends_at=0.0)
    assert await noted(database) == [1]
    await Settling(WorkerMetrics(), SMALL, share=1.0).settle(database)
    assert await noted(database) == []
    *_, above, _ = await assert_sealed(database, 1)
    assert above > 0
    assert await merge(database, 1, SMALL) == 0


async def test_idle_devices_are_looked_at_together_and_seldom(database: Database, worker: Sealing) -> None:
    """They have sent a few readings, and no more for months."""
    count = 2 * LOOK_AT_ONCE + 1
    await database.execute("INSERT INTO devices (id, key, name) SELECT n, n, n FROM generate_series(1, %s) n", (count,))
    await database.execute("SELECT ensure_readings_partition('2026-01-01Z')")
    await database.execute(
        "INSERT INTO readings (device_id, recorded_at, received_at, x, y, z) "
        "SELECT id, '2026-01-05Z', now(), n, n, n FROM devices, generate_series(1, 3) n"
    )
    await database.execute("SELECT find_device_extents()")

    await worker.seal(database)

    assert await due_within(database, 2 * SOONEST_S) == 0
    row = await (await database.execute("SELECT count(DISTINCT xmin::text) FROM sealed_devices")).fetchone()
    assert row == (3,), "transactions"


@pytest.mark.plain_only("Citus locks all months of a table for each statement")
async def test_months_of_sealed_readings_are_not_locked(database: Database, worker: Sealing) -> None:
    await stored(database, 1, readings(1500, start=START - 1500 * DAY, step=DAY))
    await worker.seal(database)
    await stored(database, 1, readings(10, start=START + DAY))
    await database.execute("UPDATE sealed_devices SET look_at = now()")
    async with database.transaction():
        (due,) = await worker._due(database, set())
        locks = await database.execute(
            "SELECT relation::regclass::text FROM pg_locks JOIN pg_class ON pg_class.oid = relation "
            "WHERE pid = pg_backend_pid() AND relname ~ '^readings_[0-9]{4}_[0-9]{2}$'"
        )
        assert {row[0] for row in await locks.fetchall()} <= {"readings_2026_01", "readings_2026_02"}
    assert (due.found, due.until) == (4, START + DAY + 9 * SECOND + 1)


async def test_only_times_up_to_the_newest_reading_are_announced(database: Database) -> None:
    """Later readings are then not late, although the clock of the database was ahead, or a device sends batches."""
    now = int(datetime.now(UTC).timestamp()) * SECOND
    year_ahead = Sealing(WorkerMetrics(), SMALL, margin=timedelta(days=-365), share=1.0)
    await stored(database, 1, readings(100, start=now - 7200 * SECOND))
    await year_ahead.seal(database)
    assert (await counts(database, [1]))[0] > 5
    await stored(database, 1, readings(100, start=now - 7100 * SECOND))
    assert await late(database) == []
