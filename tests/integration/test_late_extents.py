"""The worker finds readings that a service of the previous version stored without widening extents."""

from datetime import UTC, datetime

import numpy as np
import pytest
from psycopg.errors import InvalidParameterValue

from query_api.statistics.analysis import analyse
from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.layout import STANDARD
from query_api.statistics.figures import FigureNames, Measurement
from query_api.worker.maintenance.late_extents import widen_late
from shared.postgres.connections import Connection, connect
from shared.readings import store as readings
from shared.readings.announcements import Announcements
from shared.readings.model import SECOND, Reading, to_datetime, to_microseconds
from shared.readings.partitions import Partitions
from tests.blocks import assert_sealed, sealed, stored
from tests.conftest import Database
from tests.roles import url_as

JANUARY = to_microseconds(datetime(2024, 1, 31, 12, tzinfo=UTC))
MARCH = to_microseconds(datetime(2026, 3, 1, tzinfo=UTC))


@pytest.fixture
async def devices(database: Database) -> Connection:
    """Two devices, each with a reading stored without extents and one stored with extents."""
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1'), ('2', '2')")
    await database.execute("SELECT ensure_readings_partition('2024-01-01Z')")
    await readings.store_new(database, [Reading(device, JANUARY, 0, 1, 2, 3) for device in (1, 2)], Announcements())
    now = [Reading(device, MARCH, 0, 1, 2, 3) for device in (1, 2)]
    await Partitions().ensure(database, now)
    await readings.store_new(database, now, Announcements())
    return database


async def widen_as_worker(url: str) -> int:
    async with await connect(url_as(url, "worker"), "worker") as worker:
        return await widen_late(worker)


async def counts(connection: Connection) -> list[int]:
    return [(await analyse(connection, device, None, None)).x.count for device in (1, 2)]


async def test_readings_that_an_older_service_stores_after_the_migration_are_found(
    devices: Connection, database_url: str
) -> None:
    assert await counts(devices) == [1, 1]
    assert await widen_as_worker(database_url) == 2
    assert await counts(devices) == [2, 2]
    assert await widen_as_worker(database_url) == 0


async def test_a_device_is_sealed_with_readings_outside_of_its_extent(devices: Connection, database_url: str) -> None:
    """They were stored before the announcement, so they are not late."""
    await devices.execute("INSERT INTO sealed_devices (device_id) VALUES (1)")
    assert await sealed(devices, 1, MARCH + 1, STANDARD) == 2
    assert await counts(devices) == [2, 1]
    assert await widen_as_worker(database_url) == 2
    assert await counts(devices) == [2, 2]
    await assert_sealed(devices, 1, STANDARD)


async def test_the_first_and_the_last_value_are_outside_of_the_extent(devices: Connection) -> None:
    """Of one device, and of several together: the extent of each has the reading of March only."""
    await devices.execute("UPDATE readings SET x = 7 WHERE recorded_at < '2025-01-01Z'")
    april = MARCH + 40 * 86_400 * SECOND
    await devices.execute("SELECT ensure_readings_partition('2026-04-01Z')")
    await readings.store_new(devices, [Reading(device, april, 0, 9, 2, 3) for device in (1, 2)], Announcements())
    for device in (1, 2):
        await devices.execute("INSERT INTO sealed_devices (device_id) VALUES (%s)", (device,))
        await sealed(devices, device, april + 1, STANDARD)
    for asked in (1, [1, 2]):
        found = (await analyse(devices, asked, None, None, FigureNames.of(["first", "last"]))).x
        assert found.first == Measurement(to_datetime(JANUARY), 7)
        assert found.last == Measurement(to_datetime(april), 9)


async def test_a_writer_has_widened_the_extent_before_the_worker(devices: Connection, database_url: str) -> None:
    """The worker then finds no extent to widen. The reading of the older service was stored before the sealing."""
    await devices.execute("INSERT INTO sealed_devices (device_id) VALUES (1)")
    await sealed(devices, 1, MARCH + 1, STANDARD)
    await stored(devices, 1, Columns(np.array([JANUARY + 1]), *np.ones((3, 1))))
    await widen_as_worker(database_url)
    assert (await counts(devices))[0] == 3
    await assert_sealed(devices, 1, STANDARD)


async def test_a_week_after_the_migration_the_search_ends(devices: Connection, database_url: str) -> None:
    await devices.execute("UPDATE schema_migrations SET applied_at = now() - interval '8 days'")
    assert await widen_as_worker(database_url) == 0


async def test_a_table_that_is_missing_or_not_a_month_is_skipped(database: Database) -> None:
    row = await (await database.execute("SELECT find_extents_of_month('readings_1999_01')")).fetchone()
    assert row == (0,)
    with pytest.raises(InvalidParameterValue):
        await database.execute("SELECT find_extents_of_month('devices')")
