"""The worker's rounds: what is sealed and settled when, and what is left to another worker (ADR 41)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from query_api.blocks.building import Columns
from query_api.blocks.reading.items import Items
from query_api.blocks.reading.snapshot import snapshot
from query_api.blocks.reading.statistics import read_statistics
from query_api.blocks.sealing.retiring import retire_device, retire_month
from query_api.worker import sealing
from query_api.worker.maintenance import partitions
from query_api.worker.maintenance.removal import remove_all
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.sealing import Duty, Sealing
from shared.postgres.connections import Connection, connect
from shared.readings.deletions import Fence
from shared.readings.model import DAY, SECOND, Microseconds, Reading, to_microseconds
from shared.readings.partitions import Partitions
from shared.readings.store import prepare, store, store_new, store_requests
from tests.blocks import SMALL, assert_sealed, stored
from tests.conftest import Database
from tests.roles import url_as

START = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))


def readings(count: int, start: int = START, step: int = SECOND) -> Columns:
    return Columns(start + step * np.arange(count), *np.random.default_rng(count).normal(0, 1, (3, count)))


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Sealing:
    monkeypatch.setattr(sealing, "SHARE", 1)
    monkeypatch.setattr(Duty, "rest", _no_rest)
    return Sealing(WorkerMetrics(), SMALL, margin=timedelta(minutes=5))


async def _no_rest(_: Duty) -> None:
    pass


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
        async with sealing._alone(other, "sealing round") as is_alone:
            assert is_alone
            await worker.seal(database)
            assert await counts(database, [1]) == [0]
        await worker.seal(database)
        assert (await counts(database, [1]))[0] > 10


async def test_late_readings_are_settled_when_they_are_many_or_old(
    database: Database, worker: Sealing, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in (1, 2):
        await stored(database, device, readings(100))
    await worker.seal(database)
    await stored(database, 1, readings(9, start=START + 7, step=11 * SECOND))
    await stored(database, 2, readings(2, start=START + 7))
    monkeypatch.setattr(sealing, "SETTLE_AT", 9)

    await worker.settle(database)
    assert await late(database) == [2, 2]
    assert value_of(worker, "devicestat_worker_late_readings") == 11
    monkeypatch.setattr(sealing, "SETTLE_AFTER_S", 0.0)
    await worker.settle(database)
    assert await late(database) == []
    assert value_of(worker, "devicestat_worker_settled_readings_total") == 11
    await counts(database, [1, 2])


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

    for table in ("sealed_devices", "late_readings", "blocks", "block_values", "block_columns", "readings"):
        cursor = await database.execute(f"SELECT FROM {table} WHERE device_id = 1".encode())
        assert cursor.rowcount == 0
    assert (await counts(database, [2]))[0] > 10


def test_a_device_is_looked_at_when_it_should_have_enough() -> None:
    worker, until = Sealing(WorkerMetrics(), SMALL), START + 1000 * SECOND

    def pause(found: int, sealed: int, since: Microseconds) -> float:
        return worker._pause(sealing.Due(1, since, found), sealed, until).total_seconds()

    assert pause(0, 0, START) == sealing.LATEST_S, "it has sent nothing"
    assert pause(2, 0, START) == sealing.LATEST_S, "two in 1,000 seconds"
    assert pause(3, 0, until - 400 * SECOND) == pytest.approx(400 / 3), "one more of three in 400 seconds"
    assert pause(4, 1000, START) == sealing.SOONEST_S


async def test_a_duty_is_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(sealing.asyncio, "sleep", sleep)
    times = iter([0.0, 2.0, 8.0, 9.0, 12.0])
    duty = Duty(0.25, lambda: next(times))
    await duty.rest()
    await duty.rest()
    assert slept == [6.0, 3.0]


async def test_each_service_does_its_part_with_its_own_role(
    database: Database, worker: Sealing, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "SETTLE_AFTER_S", 0.0)
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
            found = await read_statistics(as_api, Items.each([1], None, None), [0.5], with_squares=True)
        assert found.groups[0] is not None
        assert [axis.count for axis in found.groups[0]] == [304] * 3
        await worker.settle(as_worker)
        assert await late(database) == []
        assert (await counts(database, [1]))[0] > 10
        await retire_month(as_worker, "readings_2026_01")
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
