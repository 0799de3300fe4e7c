"""The worker finds readings that a service of the previous version stored without widening extents."""

from datetime import UTC, datetime

import pytest
from psycopg.errors import InvalidParameterValue

from query_api.statistics.analysis import analyse
from query_api.worker.maintenance.late_extents import widen_late
from shared.postgres.connections import Connection, connect
from shared.readings import store as readings
from shared.readings.announcements import Announcements
from shared.readings.model import Reading, to_microseconds
from shared.readings.partitions import Partitions
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


async def test_a_week_after_the_migration_the_search_ends(devices: Connection, database_url: str) -> None:
    await devices.execute("UPDATE schema_migrations SET applied_at = now() - interval '8 days'")
    assert await widen_as_worker(database_url) == 0


async def test_a_table_that_is_missing_or_not_a_month_is_skipped(database: Database) -> None:
    row = await (await database.execute("SELECT find_extents_of_month('readings_1999_01')")).fetchone()
    assert row == (0,)
    with pytest.raises(InvalidParameterValue):
        await database.execute("SELECT find_extents_of_month('devices')")
