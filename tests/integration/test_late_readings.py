"""Readings whose time was announced: each writer copies the new ones to late_readings, and no duplicate (ADR 41)."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import httpx
import numpy as np
import psycopg
import pytest
from psycopg.errors import FeatureNotSupported

from ingestor.devices import Devices
from ingestor.storing.isolate import store_isolating
from shared.postgres import arrays
from shared.postgres.arrays import EARLIEST, LATEST, Bigints, Floats, Moment, Moments
from shared.postgres.connections import connect
from shared.postgres.errors import COPY_FAULTS
from shared.readings import store as readings
from shared.readings.deletions import Fence
from shared.readings.model import SECOND, Reading, to_datetime
from shared.readings.partitions import Partitions
from shared.readings.store import Stored
from tests.conftest import Database

NOON = 1_769_860_800 * SECOND
Late = list[tuple[int, int]]


def reading(device: int, second: int, value: float = 1.0) -> Reading:
    return Reading(device, NOON + second * SECOND, NOON, value, 2.0, 3.0)


async def register(database: Database, *devices: int) -> None:
    await database.execute(
        "INSERT INTO devices (id, key, name) SELECT d, d, d FROM unnest(%s::bigint[]) d", ([*devices],)
    )


async def announce(database: Database, device: int, second: int | None) -> None:
    until = "-infinity" if second is None else to_datetime(NOON + second * SECOND)
    await database.execute(
        "INSERT INTO sealed_devices (device_id, announced, number) "
        "VALUES (%s, %s, nextval('sealed_devices_number_seq')) "
        "ON CONFLICT (device_id) DO UPDATE SET announced = excluded.announced, number = excluded.number",
        (device, until),
    )


async def late(database: Database) -> Late:
    """The device and the second of each late reading."""
    rows = await (
        await database.execute("SELECT device_id, recorded_at FROM late_readings ORDER BY device_id, recorded_at")
    ).fetchall()
    return [(device, second_of(at)) for device, at in rows]


def second_of(moment: datetime) -> int:
    return int(moment.timestamp()) - NOON // SECOND


@pytest.fixture
async def fence(database: Database) -> Fence:
    """Of a writer of devices 1 to 3; of device 1 all before second 10 is announced."""
    await register(database, 1, 2, 3)
    await readings.prepare(database)
    await Partitions().ensure(database, [reading(device, 0) for device in (1, 2, 3)])
    await announce(database, 1, 10)
    await announce(database, 3, None)
    return Fence()


async def test_a_batch_of_new_readings_copies_its_late_ones(database: Database, fence: Fence) -> None:
    batch = [reading(1, 9), reading(1, 10), reading(2, 9), reading(3, 9)]
    await copy(database, fence, batch)
    assert await late(database) == [(1, 9)]


async def copy(database: Database, fence: Fence, batch: Sequence[Reading]) -> None:
    async with database.transaction():
        await fence.enter(database)
        await readings.store_new(database, batch, fence.announcements)


async def test_a_batch_that_fails_copies_none(database: Database, fence: Fence) -> None:
    await store(database, fence, [reading(1, 12)])
    with pytest.raises(COPY_FAULTS):
        await copy(database, fence, [reading(1, 3), reading(1, 12)])
    assert await late(database) == []


async def store(database: Database, fence: Fence, batch: Sequence[Reading]) -> Stored:
    async with database.transaction():
        await fence.enter(database)
        return await readings.store(database, batch, fence.announcements)


async def test_a_duplicate_is_not_late(database: Database, fence: Fence) -> None:
    """It is in a block already: a copy would count it twice."""
    await announce(database, 1, None)
    assert await store(database, fence, [reading(1, 1), reading(1, 2)]) == Stored(2, 0)
    await announce(database, 1, 10)
    again = [reading(1, 1), reading(1, 5), reading(1, 5), reading(1, 20), reading(2, 1)]

    assert await store(database, fence, again) == Stored(3, 2)

    assert await late(database) == [(1, 5)]


@pytest.mark.plain_only("rows of several shards have no common order")
async def test_readings_are_inserted_in_the_order_of_the_index(database: Database, fence: Fence) -> None:
    """Late ones too: another writer of the same readings inserts them in this order, and would wait for one of them."""
    await announce(database, 3, 10)
    batch = [reading(device, second) for device in (3, 1, 2) for second in (20, 1, 2)]
    await store(database, fence, batch)
    assert await inserted(database) == sorted((r.device_id, r.recorded_at) for r in batch)
    assert await late(database) == [(1, 1), (1, 2), (3, 1), (3, 2)]


async def inserted(database: Database) -> list[tuple[int, int]]:
    """The device and the time of each reading, in the order of their insertion."""
    rows = await (await database.execute("SELECT device_id, recorded_at FROM readings ORDER BY ctid")).fetchall()
    return [(device, NOON + second_of(at) * SECOND) for device, at in rows]


async def test_isolated_rows_copy_their_late_ones(database: Database, fence: Fence) -> None:
    batch = [reading(1, 1), reading(1, 2, value=float("nan")), reading(1, 3), reading(1, 11)]
    async with database.transaction():
        await fence.enter(database)
        stored, refused = await store_isolating(database, batch, fence.announcements)
    assert (stored, [row.index for row in refused]) == (Stored(3, 0), [1])
    assert await late(database) == [(1, 1), (1, 3)]


async def test_requests_copy_their_late_readings(database: Database, fence: Fence) -> None:
    for batch in ([reading(1, 1)], [reading(1, 1), reading(1, 2), reading(1, 30), reading(2, 1)]):
        assert None not in await readings.store_requests(database, [batch])
    assert await late(database) == [(1, 1), (1, 2)]


async def test_over_http(api: httpx.AsyncClient, device: int, database: Database) -> None:
    await announce(database, device, 10)
    given = {"device_id": device, "x": 1, "y": 2, "z": 3}
    for second in (5, 5, 15):
        at = to_datetime(NOON + second * SECOND).isoformat()
        assert (await api.post("/stats", json={**given, "timestamp": at})).is_success
    assert await late(database) == [(device, 5)]


async def test_the_ingestor_passes_the_fence_once_for_each_batch(database: Database, fence: Fence) -> None:
    """It learns each announcement once, also of devices that it had known."""
    devices = Devices(register=False)
    for until, expected in ((10, True), (4, False), (6, True)):
        await announce(database, 1, until)
        async with database.transaction():
            assert await devices.pass_fence(database) == set()
        is_late = devices.announcements.late(readings.Rows.of([reading(1, 5)]).columns())
        assert (is_late is not None) == expected


async def test_a_new_connection_learns_all_announcements(database: Database, fence: Fence, database_url: str) -> None:
    """It may lead to a database that was restored, which gives the same numbers to other announcements."""
    async with database.transaction():
        await fence.enter(database)
    await database.execute("UPDATE sealed_devices SET announced = announced + interval '1 minute', number = 1")
    async with await connect(database_url, "other") as other, other.transaction():
        await fence.enter(other)
        assert fence.announcements.late(readings.Rows.of([reading(1, 60)]).columns()) is not None


async def test_an_ingestor_of_an_earlier_version_cannot_store(database: Database) -> None:
    with pytest.raises(FeatureNotSupported, match="earlier version than the schema"):
        await database.execute("SELECT number, device_id FROM devices_deleted_since(0)")


async def test_dropping_a_month_deletes_its_late_readings(database: Database, fence: Fence) -> None:
    await store(database, fence, [reading(1, 1)])
    await database.execute("ALTER TABLE readings DETACH PARTITION readings_2026_01")
    await database.execute("SELECT drop_readings_month('readings_2026_01')")
    assert await late(database) == []


@pytest.mark.parametrize("count", [0, 1, 1000])
async def test_arrays_go_to_the_server_and_back(database: psycopg.AsyncConnection[object], count: int) -> None:
    rng = np.random.default_rng(count)
    numbers, values = rng.integers(-(2**62), 2**62, count), rng.normal(0, 100, count)
    moments = rng.integers(0, NOON, count)
    cursor = arrays.cursor(database)  # type: ignore[arg-type]
    await cursor.execute(
        "SELECT %s::bigint[], %s::float8[], %s::timestamptz[], %s::timestamptz",
        (Bigints(numbers), Floats(values), Moments(moments), Moment(NOON)),
    )
    row = await cursor.fetchone()
    assert_equal(row[:3], (numbers, values, moments))
    assert row[3] == NOON


def assert_equal(found: Iterable[object], expected: Iterable[object]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)  # type: ignore[arg-type]


async def test_infinite_moments(database: Database) -> None:
    cursor = arrays.cursor(database)
    await cursor.execute(
        "SELECT '-infinity'::timestamptz, ARRAY['-infinity'::timestamptz], %s = '-infinity'::timestamptz, %s > now()",
        (Moment(EARLIEST), Moment(LATEST)),
    )
    assert await cursor.fetchone() == (EARLIEST, [EARLIEST], True, True)
