"""The worker's rounds: what is sealed and settled when, and what is left to another worker (ADR 41)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import Needs, read_statistics
from query_api.statistics.blocks.sealing.retiring import retire_device
from query_api.statistics.blocks.sealing.sealing import Step, seal_step
from query_api.worker import sealing
from query_api.worker.cleaning import orphaned_blocks
from query_api.worker.maintenance import partitions
from query_api.worker.maintenance.duty import Duty, alone
from query_api.worker.maintenance.removal import remove_all, remove_some
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.sealing import Sealing
from query_api.worker.settling import Settling
from shared.postgres.connections import Connection, connect
from shared.readings.deletions import Fence
from shared.readings.model import DAY, SECOND, Reading, to_microseconds
from shared.readings.partitions import Partitions
from shared.readings.store import prepare, store, store_new, store_requests
from tests.blocks import SMALL, assert_sealed, sealed, stored
from tests.conftest import Database
from tests.roles import url_as

TABLES = ("sealed_devices", "late_readings", "blocks", "block_values", "block_columns", "readings")
START = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))


def readings(count: int, start: int = START, step: int = SECOND) -> Columns:
    return Columns(start + step * np.arange(count), *np.random.default_rng(count).normal(0, 1, (3, count)))


@pytest.fixture
def worker() -> Sealing:
    return Sealing(WorkerMetrics(), SMALL, margin=timedelta(minutes=5), share=1.0)


@pytest.fixture
def settler(worker: Sealing) -> Settling:
    """Settles, without rests as the sealer does."""
    return Settling(worker._metrics, SMALL, share=1.0)


async def counts(database: Database, devices: Sequence[int]) -> list[int]:
    """The number of blocks of each device, each of which is right."""
    return [sum(await assert_sealed(database, device)) for device in devices]


def value_of(worker: Sealing, name: str) -> float:
    value = worker._metrics.registry.get_sample_value(name)
    assert value is not None
    return value


async def test_devices_with_enough_readings_are_sealed(database: Database, worker: Sealing) -> None:
    now = int(datetime.now(UTC).timestamp()) * SECOND
    await stored(database, 1, readings(500))
    await stored(database, 2, readings(3))
    await stored(database, 3, readings(100, start=now - 100 * SECOND))
    await database.execute("DELETE FROM sealed_devices")

    await worker.seal(database)

    many, *others = await counts(database, [1, 2, 3])
    assert many > 10
    assert others == [0, 0], "too few, and too young"
    assert value_of(worker, "devicestat_worker_sealed_readings_total") == 500
    rows = await (await database.execute("SELECT device_id FROM sealed_devices WHERE look_at > now()")).fetchall()
    assert len(rows) == 3


async def test_another_worker_seals(database: Database, worker: Sealing, database_url: str) -> None:
    await stored(database, 1, readings(500))
    async with await connect(database_url, "other") as other:
        async with alone(other, "sealing round") as is_alone:
            assert is_alone
            await worker.seal(database)
            assert await counts(database, [1]) == [0]
        await worker.seal(database)
        assert (await counts(database, [1]))[0] > 10


async def test_late_readings_are_settled_when_they_are_many_or_old(database: Database, worker: Sealing) -> None:
    settler = Settling(worker._metrics, SMALL, settle_at=9, share=1.0)
    for device in (1, 2):
        await stored(database, device, readings(100))
    await worker.seal(database)
    await stored(database, 1, readings(9, start=START + 7, step=11 * SECOND))
    await stored(database, 2, readings(2, start=START + 7))

    await settler.settle(database)
    assert await late(database) == [2, 2]
    assert value_of(worker, "devicestat_worker_late_readings") == 11
    await set_back(database, "59 minutes")
    await Settling(WorkerMetrics(), SMALL).settle(database)
    assert await late(database) == [2, 2], "they are late for less than an hour"
    await set_back(database, "2 minutes")
    await Settling(worker._metrics, SMALL).settle(database)
    assert await late(database) == [], "another worker has counted most of the hour"
    assert value_of(worker, "devicestat_worker_settled_readings_total") == 11
    await counts(database, [1, 2])


async def set_back(database: Database, minutes: str) -> None:
    await database.execute("UPDATE sealed_devices SET late_since = late_since - %s::interval", (minutes,))


async def test_the_hour_begins_with_the_first_late_reading_after_a_settlement(
    database: Database, worker: Sealing, settler: Settling
) -> None:
    await stored(database, 1, readings(100))
    await worker.seal(database)
    for second in (7, 8):
        await stored(database, 1, readings(2, start=START + second))
        await settler.settle(database)
        assert await late(database) == [1, 1]
        await set_back(database, "61 minutes")
        await settler.settle(database)
        assert await late(database) == []
    await stored(database, 1, readings(2, start=START + 9))
    await database.execute("UPDATE sealed_devices SET late_since = now() + interval '1 year'")
    await settler.settle(database)
    row = await (await database.execute("SELECT late_since <= now() FROM sealed_devices")).fetchone()
    assert row == (True,), "the clock was set back"


async def test_new_devices_are_enrolled_each_minute(
    database: Database, worker: Sealing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def enrolled() -> int:
        return (await database.execute("SELECT FROM sealed_devices")).rowcount

    register = "INSERT INTO devices (key, name) SELECT 'd' || n, 'd' FROM generate_series(%s::int, %s) n"
    monkeypatch.setattr(sealing, "ENROLLED_AT_ONCE", 3)
    await database.execute(register, (1, 7))
    await worker.seal(database)
    assert await enrolled() == 7, "there were more than it enrols at once"
    await database.execute(register, (8, 9))
    await worker.seal(database)
    assert await enrolled() == 7
    monkeypatch.setattr(worker, "_enrols_at", 0.0)
    await worker.seal(database)
    assert await enrolled() == 9


async def test_a_device_is_looked_at_although_the_clock_was_set_back(database: Database, worker: Sealing) -> None:
    await stored(database, 1, readings(100))
    await database.execute("UPDATE sealed_devices SET look_at = now() + interval '1 year'")
    await worker.seal(database)
    row = await (
        await database.execute("SELECT look_at <= now() + interval '15 minutes' FROM sealed_devices")
    ).fetchone()
    assert row == (True,)


@pytest.mark.parametrize("begun", [False, True])
async def test_blocks_that_an_older_worker_left_are_deleted(
    database: Database, worker: Sealing, *, begun: bool
) -> None:
    """It removes the readings of a deleted device, and knows no blocks. `begun`: by a worker of this version."""
    for device in (1, 2, 3):
        await stored(database, device, readings(300))
    await worker.seal(database)
    await stored(database, 1, readings(3, start=START + 5))
    await database.execute("DELETE FROM devices WHERE id IN (1, 2)")
    mark = "INSERT INTO deleted_devices (device_id, key) VALUES (%s, %s)"
    for device in (1, 2):
        await database.execute(mark, (device, "k"))
    if begun:
        assert await remove_some(database) == 3
    await database.execute("DELETE FROM readings WHERE device_id = 1")
    await database.execute("UPDATE deleted_devices SET removed_at = now() WHERE device_id = 1")

    deleted = 0
    while some := await orphaned_blocks.delete_some(database, limit=7):
        assert some <= 7
        deleted += some

    assert deleted > 3 * 7
    for table in TABLES:
        assert (await database.execute(f"SELECT FROM {table} WHERE device_id = 1".encode())).rowcount == 0
    assert [sum(await assert_sealed(database, device)) > 10 for device in (2, 3)] == [True, True]


async def test_the_late_readings_of_a_deleted_device_are_removed_in_large_steps(database: Database) -> None:
    await stored(database, 1, readings(10))
    await database.execute(
        "INSERT INTO late_readings SELECT 1, '2026-01-01Z'::timestamptz + n * interval '1 s', 1, 1, 1 "
        "FROM generate_series(1, 20000) AS n"
    )
    await database.execute("DELETE FROM devices WHERE id = 1")
    await database.execute("INSERT INTO deleted_devices (device_id, key) VALUES (1, 'k')")
    assert [await remove_some(database) for _ in range(3)] == [10_000, 10_000, 10]


async def late(database: Database) -> list[int]:
    rows = await (await database.execute("SELECT device_id FROM late_readings ORDER BY 1")).fetchall()
    return [row[0] for row in rows]


async def test_retention_drops_the_blocks_of_its_months(database: Database, worker: Sealing) -> None:
    await stored(database, 1, readings(300, step=3600 * SECOND, start=START - 400 * DAY))
    await stored(database, 1, readings(300))
    await worker.seal(database)
    age = datetime.now(UTC) - datetime(2025, 12, 31, tzinfo=UTC)

    dropped = await partitions.drop_partitions(database, age)

    assert dropped
    assert (await counts(database, [1]))[0] > 10
    row = await (await database.execute("SELECT min(first), count(*) FROM blocks")).fetchone()
    assert row is not None
    assert row[0] >= datetime(2026, 1, 1, tzinfo=UTC)


async def test_the_blocks_of_a_deleted_device_are_removed(database: Database, worker: Sealing) -> None:
    for device in (1, 2):
        await stored(database, device, readings(300))
    await worker.seal(database)
    await stored(database, 1, readings(3, start=START + 5))
    await database.execute("DELETE FROM devices WHERE id = 1")
    await database.execute("INSERT INTO deleted_devices (device_id, key) VALUES (1, 'k')")

    await remove_all(database)
    await worker.seal(database)

    for table in TABLES:
        cursor = await database.execute(f"SELECT FROM {table} WHERE device_id = 1".encode())
        assert cursor.rowcount == 0
    assert (await counts(database, [2]))[0] > 10


async def test_a_round_ends_amid_a_device_and_the_next_one_continues(
    database: Database, worker: Sealing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "seal_step", partial(seal_step, step_readings=50))
    await stored(database, 1, readings(120))
    due = await worker._due(database, set())
    await worker._seal_all(database, due, Duty(share=1.0), ends_at=0.0)
    assert await counts(database, [1]) == [0]
    steps = [await worker._seal_one(database, due[0], Duty(share=1.0), ends_at=0.0) for _ in range(3)]
    assert steps == [Step(50, is_done=False), Step(50, is_done=False), Step(20, is_done=True)]


async def test_a_block_that_lacks_values_is_built_anew_and_the_worker_goes_on(
    database: Database, worker: Sealing
) -> None:
    await stored(database, 1, readings(500))
    await sealed(database, 1, START + 401 * SECOND)
    assert (await assert_sealed(database, 1))[0] == 1
    await database.execute("DELETE FROM block_columns WHERE level = 0")
    await database.execute("DELETE FROM block_values WHERE axis = 1 AND level = 1 AND first > '2026-01-30 00:05'")

    await worker.seal(database)

    assert value_of(worker, "devicestat_worker_scrub_mismatches_total") > 3
    assert min((await assert_sealed(database, 1))[1:3]) > 0
    row = await (await database.execute("SELECT sealed FROM sealed_devices")).fetchone()
    assert row == (datetime(2026, 1, 30, 0, 8, 19, 1, tzinfo=UTC),)


async def test_each_service_does_its_part_with_its_own_role(
    database: Database, worker: Sealing, database_url: str
) -> None:
    settler = Settling(worker._metrics, SMALL, settle_after=timedelta(), share=1.0)
    await stored(database, 1, readings(300))
    await database.execute("DELETE FROM sealed_devices")
    async with (
        await connect(url_as(database_url, "worker"), "worker") as as_worker,
        await connect(url_as(database_url, "ingestor"), "ingestor") as as_ingestor,
        await connect(url_as(database_url, "api"), "api") as as_api,
    ):
        await worker.seal(as_worker)
        await stored_by(as_ingestor, [reading(1, 5, 77.0), reading(1, 6, 78.0)], copied=True)
        await stored_by(as_ingestor, [reading(1, 5, 77.0), reading(1, 7, 79.0)], copied=False)
        assert await store_requests(as_api, [[reading(1, 8, 80.0)]]) is not None
        assert await late(database) == [1] * 4
        async with snapshot(as_api):
            found = await read_statistics(
                as_api, Items.each([1], None, None), Needs((0.5,), squares=True), layout=SMALL
            )
        assert found.groups[0] is not None
        assert [axis.count for axis in found.groups[0]] == [304] * 3
        await settler.settle(as_worker)
        assert await late(database) == []
        assert (await counts(database, [1]))[0] > 10
        async with as_worker.transaction():
            await retire_device(as_worker, 1, 5)


def reading(device: int, second: int, value: float) -> Reading:
    return Reading(device, START + second * SECOND, START, value, value, value)


async def stored_by(connection: Connection, batch: Sequence[Reading], *, copied: bool) -> None:
    """As an ingestor stores a batch: straight, or by the staging table."""
    fence = Fence()
    await prepare(connection)
    await Partitions().ensure(connection, batch)
    async with connection.transaction():
        await fence.enter(connection)
        await (store_new if copied else store)(connection, batch, fence.announcements)
