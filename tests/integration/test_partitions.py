"""Months of readings and extents of devices: concurrent creation, and caching."""

import asyncio
from typing import Any

from psycopg import AsyncCursor

from shared.postgres.connections import Connection, connect
from shared.readings.model import DAY, SECOND, Reading
from shared.readings.partitions import AT_ONCE, Partitions
from tests.conftest import Database

ENSURE = """
    SELECT count(*) FILTER (WHERE ensure_readings_partition(timestamptz '2030-01-01 UTC' + make_interval(months => n)))
    FROM unnest(%s::integer[]) AS n
"""


async def test_concurrent_writers_create_each_month_once(database_url: str) -> None:
    """In opposite orders, several in one transaction: no deadlock, and no writer sees an incomplete month."""

    async def make(months: list[int]) -> int:
        made = 0
        async with await connect(database_url, "writer") as connection:
            for _ in range(2):
                row = await (await connection.execute(ENSURE, (months,))).fetchone()
                assert row is not None
                made += row[0]
        return made

    upwards = list(range(24))
    made = await asyncio.gather(*(make(order) for _ in range(4) for order in (upwards, upwards[::-1])))
    assert sum(made) == 24


NOON = 1_769_860_800 * SECOND  # 2026-01-31T12:00:00Z
_DEVICES = "INSERT INTO devices (key, name) VALUES ('1', '1'), ('2', '2')"


def reading(device: int, day: int) -> Reading:
    return Reading(device, NOON + day * DAY, NOON, 1, 2, 3)


class Asked:
    """Records the statements of a connection."""

    def __init__(self, connection: Connection) -> None:
        asked = self.statements = list[str]()

        class Cursor(AsyncCursor[Any]):
            async def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
                asked.append(str(query))
                return await super().execute(query, *arguments, **options)

        connection.cursor_factory = Cursor

    def taken(self) -> int:
        """Return the number of statements since the last call."""
        count = len(self.statements)
        self.statements.clear()
        return count


async def test_cached_partitions_need_no_query(database: Database) -> None:
    await database.execute(_DEVICES)
    partitions, asked = Partitions(), Asked(database)
    await partitions.ensure(database, [reading(1, 0), reading(2, 1)])
    assert asked.taken() == 2  # the months, the extents
    await partitions.ensure(database, [reading(1, -30), reading(1, 0), reading(2, 27)])
    assert asked.taken() == 0
    await partitions.ensure(database, [reading(1, 1)])
    assert asked.taken() == 1  # the month is there
    await partitions.ensure(database, [reading(1, -3000), reading(1, 1)])
    assert asked.taken() == 2
    for _ in range(2):  # there is a gap between its months
        await partitions.ensure(database, [reading(1, -3000), reading(1, 1)])
    assert asked.taken() == 0
    partitions.forget()
    await partitions.ensure(database, [reading(1, 1)])
    assert asked.taken() == 2


async def test_a_new_connection_clears_the_cache(database: Database, database_url: str) -> None:
    """It may lead to a replica that was promoted without the latest changes."""
    await database.execute(_DEVICES)
    partitions = Partitions()
    await partitions.ensure(database, [reading(1, 0)])
    await database.execute("DELETE FROM device_extents")
    async with await connect(database_url, "other") as other:
        await partitions.ensure(other, [reading(1, 0)])
    assert (await database.execute("SELECT FROM device_extents")).rowcount == 1


async def test_an_unknown_device_has_no_extent(database: Database) -> None:
    """As in a refused request. After its registration the device has an extent."""
    partitions = Partitions()
    await partitions.ensure(database, [reading(1, 0)])
    assert (await database.execute("SELECT FROM device_extents")).rowcount == 0
    await database.execute(_DEVICES)
    await partitions.ensure(database, [reading(1, 0)])
    assert (await database.execute("SELECT FROM device_extents")).rowcount == 1


async def test_many_months_are_created_in_steps_that_let_others_proceed(database: Database, database_url: str) -> None:
    await database.execute(_DEVICES)
    asked = Asked(database)
    await Partitions().ensure(database, [reading(1, -30 * month) for month in range(121)])
    made = [statement for statement in asked.statements if "ensure_readings_partition" in statement]
    assert len(made) == -(-120 // AT_ONCE)


async def test_concurrent_writers_widen_equal_extents(database: Database, database_url: str) -> None:
    """In opposite orders: no deadlock, and the extents include all months."""
    await database.execute(_DEVICES)

    async def widen(days: list[int]) -> None:
        async with await connect(database_url, "writer") as connection:
            for day in days:
                await Partitions().ensure(connection, [reading(1, day), reading(2, -day)])

    days = list(range(-300, 300, 60))
    await asyncio.gather(*(widen(order) for _ in range(3) for order in (days, days[::-1])))
    rows = await (await database.execute("SELECT starts_at, ends_at FROM device_extents")).fetchall()
    assert [(starts_at.isoformat()[:7], ends_at.isoformat()[:7]) for starts_at, ends_at in rows] == [
        ("2025-04", "2026-10"),
        ("2025-06", "2026-12"),
    ]
