"""Months of readings, made by many at once."""

import asyncio

from shared.database import connect

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
