"""Months of readings, and the extents of devices: made by many at once, and remembered."""

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


async def test_writers_at_once_make_each_month_once(database_url: str) -> None:
    """In opposite orders, several in one transaction: no deadlock, and none finds a month half made."""

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
    """Notes what a connection is asked."""

    def __init__(self, connection: Connection) -> None:
        asked = self.statements = list[str]()

        class Cursor(AsyncCursor[Any]):
            async def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
                asked.append(str(query))
                return await super().execute(query, *arguments, **options)

        connection.cursor_factory = Cursor

    def taken(self) -> int:
        """How many statements there were since the last call."""
        count = len(self.statements)
        self.statements.clear()
        return count


async def test_what_is_known_to_be_there_asks_nothing_of_the_database(database: Database) -> None:
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


async def test_what_was_known_over_another_connection_is_found_out_again(database: Database, database_url: str) -> None:
    """It may lead to a copy that took over, and that had not heard of the last of it."""
    await database.execute(_DEVICES)
    partitions = Partitions()
    await partitions.ensure(database, [reading(1, 0)])
    await database.execute("DELETE FROM device_extents")
    async with await connect(database_url, "other") as other:
        await partitions.ensure(other, [reading(1, 0)])
    assert (await database.execute("SELECT FROM device_extents")).rowcount == 1


async def test_an_unknown_device_has_no_extent(database: Database) -> None:
    """As in a request that is refused for it. Once it is registered, it has one."""
    partitions = Partitions()
    await partitions.ensure(database, [reading(1, 0)])
    assert (await database.execute("SELECT FROM device_extents")).rowcount == 0
    await database.execute(_DEVICES)
    await partitions.ensure(database, [reading(1, 0)])
    assert (await database.execute("SELECT FROM device_extents")).rowcount == 1


async def test_many_months_are_made_in_steps_between_which_others_make_theirs(
    database: Database, database_url: str
) -> None:
    await database.execute(_DEVICES)
    asked = Asked(database)
    await Partitions().ensure(database, [reading(1, -30 * month) for month in range(121)])
    made = [statement for statement in asked.statements if "ensure_readings_partition" in statement]
    assert len(made) == -(-120 // AT_ONCE)


async def test_writers_at_once_widen_the_same_extents(database: Database, database_url: str) -> None:
    """In opposite orders: no deadlock, and what each asked for is in it."""
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
