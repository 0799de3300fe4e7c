"""Ticks: one request each, with any number of workers, and after crashes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from query_api.worker.ticks import run_due_ticks
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import locks, services
from tests.command import argv, environment
from tests.conftest import Database
from tests.roles import url_as
from tests.waiting import eventually

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def owner(database: Database) -> int:
    """The id of a device."""
    row = await (await database.execute("INSERT INTO devices (key, name) VALUES ('d', 'd') RETURNING id")).fetchone()
    assert row is not None
    number: int = row[0]
    return number


_MAKE = """
    INSERT INTO analysis_schedules (device_id, cron, timezone, period, align, figures, callback, next_tick)
    VALUES (%(device_id)s, %(cron)s, %(timezone)s, %(period)s, %(align)s, %(figures)s, %(callback)s, %(next_tick)s)
    RETURNING id
"""


async def make(database: Database, owner: int, **changes: Any) -> int:
    """A schedule that ticks each minute and was last due three minutes ago."""
    given = {"cron": "* * * * *", "timezone": "UTC", "period": "PT1M", "align": True, "figures": [],
             "callback": None, "device_id": owner,
             "next_tick": datetime.now(UTC).replace(second=0, microsecond=0) - 3 * MINUTE}  # fmt: skip
    row = await (await database.execute(_MAKE, given | changes)).fetchone()
    assert row is not None
    number: int = row[0]
    return number


async def rows(database: Database, query: str) -> list[Any]:
    return await (await database.execute(query.encode())).fetchall()


async def requests(database: Database) -> list[Any]:
    return await rows(database, "SELECT device_id, lower(period), upper(period) FROM analysis_requests ORDER BY id")


async def run_at_once(url: str, workers: int) -> int:
    """Run due ticks on `count` connections concurrently. Return the number of ticks."""

    async def look() -> int:
        async with await connect(url_as(url, "worker"), "ticker") as connection:
            return await run_due_ticks(connection)

    return sum(await asyncio.gather(*(look() for _ in range(workers))))


async def test_of_missed_ticks_only_the_latest_is_run(database: Database, owner: int) -> None:
    number = await make(database, owner, next_tick=datetime(2020, 1, 1, tzinfo=UTC))
    before = datetime.now(UTC)
    assert await run_due_ticks(database) == 1
    assert await run_due_ticks(database) in (0, 1)  # 1: a minute has just begun
    (schedule,) = await rows(database, "SELECT id, last_tick, next_tick FROM analysis_schedules")
    ticks = await rows(database, "SELECT schedule_id, tick, request_id FROM analysis_ticks ORDER BY tick")
    assert ticks[0][1] in (before.replace(second=0, microsecond=0), before.replace(second=0, microsecond=0) + MINUTE)
    assert schedule == (number, ticks[-1][1], ticks[-1][1] + MINUTE)
    _, start, end = (await requests(database))[0]
    assert (start, end) == (ticks[0][1] - MINUTE, ticks[0][1] - timedelta(microseconds=1))


async def test_concurrent_workers_run_each_tick_once(database_url: str, database: Database, owner: int) -> None:
    night = datetime(2026, 1, 15, 1, tzinfo=UTC)
    numbers = [
        await make(database, owner, cron="0 2 1 1 *", timezone="Europe/Berlin", period=f"P{n + 1}D", next_tick=night)
        for n in range(20)
    ]
    assert await run_at_once(database_url, 5) == 20
    ticks = await rows(database, "SELECT schedule_id, tick FROM analysis_ticks ORDER BY schedule_id")
    assert [number for number, _ in ticks] == numbers
    assert len(await requests(database)) == 20
    assert await run_at_once(database_url, 5) == 0


async def test_equal_ticks_of_several_schedules_share_a_request(
    database_url: str, database: Database, owner: int
) -> None:
    for _ in range(10):
        await make(database, owner, period=None)
    assert await run_at_once(database_url, 4) >= 10
    assert await rows(database, "SELECT FROM analysis_ticks WHERE request_id IS NULL") == []
    assert len(await rows(database, "SELECT DISTINCT schedule_id FROM analysis_ticks")) == 10
    assert len(await requests(database)) == 1


async def test_the_request_has_the_figures_and_the_callback(database: Database, owner: int) -> None:
    await make(database, owner, figures=["mean", "p95"], callback="https://example.org/")
    assert await run_due_ticks(database) >= 1
    assert (await rows(database, "SELECT figures FROM analysis_requests"))[0] == (["mean", "p95"],)
    joined = "SELECT url FROM analysis_callbacks JOIN analysis_ticks USING (request_id)"
    assert (await rows(database, joined))[0] == ("https://example.org/",)


async def test_a_recorded_tick_is_not_run_again(database: Database, owner: int) -> None:
    number = await make(database, owner, cron="0 0 1 1 *", next_tick=datetime(2026, 1, 1, tzinfo=UTC))
    assert await run_due_ticks(database) == 1
    await database.execute("UPDATE analysis_schedules SET next_tick = '2026-01-01T00:00Z'")  # as if a clock went back
    assert await run_due_ticks(database) == 1
    assert await rows(database, "SELECT schedule_id FROM analysis_ticks") == [(number,)]
    assert len(await requests(database)) == 1
    assert (await rows(database, "SELECT next_tick > now() FROM analysis_schedules")) == [(True,)]


async def test_a_paused_schedule_does_not_tick(database: Database, owner: int) -> None:
    await make(database, owner, next_tick=None)
    assert await run_due_ticks(database) == 0
    assert await requests(database) == []


async def test_the_database_itself_refuses_a_second_request_for_a_tick(database: Database, owner: int) -> None:
    number = await make(database, owner)
    again = "INSERT INTO analysis_ticks (schedule_id, tick) VALUES (%s, '2026-01-01')"
    await database.execute(again, (number,))
    with pytest.raises(psycopg.errors.UniqueViolation):
        await database.execute(again, (number,))


async def test_a_tick_does_not_wait_for_the_deletion_of_its_device(
    database_url: str, database: Database, owner: int
) -> None:
    await make(database, owner)
    async with await connect(database_url, "deleter") as deleter, deleter.transaction():
        await deleter.execute("SELECT FROM devices WHERE id = %s FOR UPDATE", (owner,))
        assert await run_due_ticks(database) == 0
        await deleter.execute("DELETE FROM devices WHERE id = %s", (owner,))
    assert await run_due_ticks(database) == 0


# Workers.


async def test_three_workers_run_a_tick_once(api_settings: Settings, database: Database, owner: int) -> None:
    await make(database, owner, cron="0 0 1 1 *", period="P1Y", next_tick=datetime(2026, 1, 1, tzinfo=UTC))
    async with services.worker(api_settings), services.worker(api_settings), services.worker(api_settings):
        results = 'SELECT request_id, "start" FROM analysis_results'
        found = await eventually(lambda: rows(database, results), bool)
        due = "SELECT FROM analysis_schedules WHERE next_tick <= now()"
        assert await rows(database, due) == []
    ticks = await rows(database, "SELECT request_id FROM analysis_ticks")
    assert [(number,) for number, _ in found] == ticks
    assert len(await requests(database)) == 1


@asynccontextmanager
async def worker_process(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker process, which is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *argv("work"), env=environment(database_url=url_as(url, "worker"), worker_metrics_port=0),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_tick_of_a_killed_worker_is_run_by_another(
    database_url: str, api_settings: Settings, database: Database, owner: int
) -> None:
    number = await make(database, owner, cron="0 0 1 1 *", next_tick=datetime(2026, 1, 1, tzinfo=UTC))
    async with (
        worker_process(database_url) as dying,
        await connect(database_url, "lock") as lock,
        lock.transaction(),
    ):
        await lock.execute("LOCK TABLE analysis_requests IN SHARE ROW EXCLUSIVE MODE")
        await eventually(lambda: locks.waiting(database, "analysis_requests"), bool)
        await eventually(lambda: rows(database, _TAKEN_UP), bool)
        dying.kill()
        await dying.wait()
    assert await requests(database) == []
    async with services.worker(api_settings):
        await eventually(lambda: requests(database), bool)
        await eventually(lambda: rows(database, "SELECT FROM analysis_results"), bool)
    assert await rows(database, "SELECT schedule_id FROM analysis_ticks") == [(number,)]
    assert len(await requests(database)) == 1


# The tick is written, and not yet committed.
_TAKEN_UP = """
    SELECT FROM pg_locks WHERE granted AND mode = 'RowExclusiveLock' AND relation = 'analysis_ticks'::regclass
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def test_a_schedule_that_cannot_tick_is_paused_and_delays_no_other(database: Database, owner: int) -> None:
    """Its time zone may be known to the API, and unknown to this worker."""
    broken = await make(database, owner, timezone="Mars/Olympus_Mons", next_tick=datetime(2026, 1, 1, tzinfo=UTC))
    await make(database, owner, cron="0 0 1 1 *", next_tick=datetime(2026, 1, 1, tzinfo=UTC))
    assert await run_due_ticks(database) == 2
    assert len(await requests(database)) == 1
    query = f"SELECT next_tick, last_error FROM analysis_schedules WHERE id = {broken}"  # noqa: S608  # a number of ours
    (shown,) = await rows(database, query)
    assert shown[0] is None
    assert "Mars/Olympus_Mons" in shown[1]
