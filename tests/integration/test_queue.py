"""The queue of analyses: claims and leases; workers that share it, fail, vanish and stop."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from query_api.queue import channels
from query_api.queue import claims as queue
from query_api.queue.claiming import Turns, wake
from query_api.queue.claims import Claim
from query_api.statistics.analysis import Analysis, analyse
from query_api.worker import service
from query_api.worker.tuning import DEFAULT, Tuning
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import services
from tests.ports import free_port
from tests.roles import as_role
from tests.waiting import HANG_S, eventually

Database = psycopg.AsyncConnection[Any]


@pytest.fixture
async def owner(database: Database) -> int:
    """The id of a device with three readings."""
    row = await (await database.execute("INSERT INTO devices (key, name) VALUES ('d', 'd') RETURNING id")).fetchone()
    assert row is not None
    number: int = row[0]
    await database.execute(
        "INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)"
        " SELECT %s, now() + n * interval '1 us', now(), n, n, n FROM generate_series(1, 3) n",
        (number,),
    )
    return number


async def enqueue(database: Database, owner: int, count: int = 1) -> list[int]:
    cursor = await database.execute(
        "INSERT INTO analysis_requests (device_id, period) SELECT %s, '[,]' FROM generate_series(1, %s) RETURNING id",
        (owner, count),
    )
    ids = [row[0] for row in await cursor.fetchall()]
    await database.execute("NOTIFY analysis_requests")
    return ids


async def claim(database: Database, count: int) -> list[Claim]:
    """Claim up to `count` requests, as a worker does."""
    await wake(database)
    return await Turns().claim(database, count)


async def take(database: Database) -> Claim:
    (held,) = await claim(database, 1)
    return held


async def look(database: Database, number: int) -> dict[str, Any]:
    names = "status, attempts, last_error, finished_at IS NOT NULL AS ended, lease_token IS NOT NULL AS leased"
    query = f"SELECT {names} FROM analysis_requests WHERE id = %s"  # noqa: S608  # names of columns
    cursor = await database.execute(query, (number,))
    row = await cursor.fetchone()
    assert row is not None
    return dict(zip(("status", "attempts", "last_error", "ended", "leased"), row, strict=True))


async def until_ended(database: Database, number: int) -> dict[str, Any]:
    return await eventually(lambda: look(database, number), lambda seen: seen["ended"])


async def results(database: Database) -> list[int]:
    return [row[0] for row in await (await database.execute("SELECT request_id FROM analysis_results")).fetchall()]


async def compute(database: Database, held: Claim) -> Analysis:
    return await analyse(database, held.device_id, held.start, held.end)


async def expire_leases(database: Database) -> None:
    await database.execute("UPDATE analysis_requests SET lease_until = now() - interval '1 s' WHERE status = 'running'")


# One statement after another.


async def test_claims_take_the_longest_waiting_first_and_each_once(database: Database, owner: int) -> None:
    ids = await enqueue(database, owner, 5)
    first, second = await claim(database, 2), await claim(database, 10)
    assert sorted(held.id for held in first) == ids[:2]
    assert sorted(held.id for held in second) == ids[2:]
    assert {held.attempts for held in first} == {1}
    assert await claim(database, 1) == []
    assert await queue.length(database) == 0


async def test_a_finished_analysis_has_a_result_and_no_lease(database: Database, owner: int) -> None:
    (number,) = await enqueue(database, owner)
    held = await take(database)
    found = await compute(database, held)
    assert await queue.finish(database, held, found)
    assert await look(database, number) == {
        "status": "done", "attempts": 1, "last_error": None, "ended": True, "leased": False,
    }  # fmt: skip
    row = await (await database.execute("SELECT device_id, x FROM analysis_results")).fetchone()
    assert row is not None
    assert (row[0], row[1]) == (owner, msgspec.to_builtins(found.x))
    assert not await queue.finish(database, held, found)
    assert len(await results(database)) == 1


async def test_a_worker_whose_lease_expired_writes_nothing(database: Database, owner: int) -> None:
    (number,) = await enqueue(database, owner)
    zombie = await take(database)
    found = await compute(database, zombie)
    await expire_leases(database)
    assert await queue.reap(database) == {number: "queued"}

    successor = await take(database)
    assert (successor.id, successor.attempts) == (number, 2)
    assert await queue.renew(database, [zombie.token, successor.token]) == {successor.token}
    assert not await queue.finish(database, zombie, found)
    assert await queue.fail(database, zombie, "too late") is None
    await queue.give_back(database, [zombie.token])
    assert (await look(database, number))["status"] == "running"
    assert await results(database) == []

    assert await queue.finish(database, successor, found)
    assert not await queue.finish(database, zombie, found)
    assert await results(database) == [number]


async def test_a_lease_that_is_renewed_is_not_reaped(database: Database, owner: int) -> None:
    await enqueue(database, owner)
    held = await take(database)
    await expire_leases(database)
    assert await queue.renew(database, [held.token]) == {held.token}
    assert await queue.reap(database) == {}


async def test_failed_attempts_are_delayed_longer_each_time_and_end(database: Database, owner: int) -> None:
    (number,) = await enqueue(database, owner)
    waits = []
    for attempt in range(1, queue.RETRIES.max_attempts + 1):
        held = await take(database)
        assert held.attempts == attempt
        status = await queue.fail(database, held, f"attempt {attempt}")
        seen = await look(database, number)
        assert (seen["status"], seen["last_error"], seen["leased"]) == (status, f"attempt {attempt}", False)
        cursor = await database.execute("SELECT run_after - now() FROM analysis_requests")
        row = await cursor.fetchone()
        assert row is not None
        waits.append(row[0])
        assert await claim(database, 1) == []
        await database.execute("UPDATE analysis_requests SET run_after = now() WHERE status = 'queued'")
    assert (status, seen["ended"]) == ("failed", True)
    longest = [queue.RETRIES.base * 2**n for n in range(queue.RETRIES.max_attempts)]
    for wait, most in zip(waits[:-1], longest, strict=False):
        assert most / 2 - timedelta(seconds=1) <= wait <= most


async def test_a_request_that_crashes_its_workers_ends(database: Database, owner: int) -> None:
    (number,) = await enqueue(database, owner)
    for _ in range(queue.RETRIES.max_attempts):
        await take(database)
        await expire_leases(database)
        reaped = await queue.reap(database)
    assert reaped == {number: "failed"}
    seen = await look(database, number)
    assert (seen["status"], seen["ended"], seen["leased"]) == ("failed", True, False)
    assert "lease" in seen["last_error"]


async def test_a_request_that_is_given_back_is_unchanged(database: Database, owner: int) -> None:
    (number,) = await enqueue(database, owner)
    held = await take(database)
    await queue.give_back(database, [held.token])
    seen = await look(database, number)
    assert (seen["status"], seen["attempts"], seen["leased"]) == ("queued", 0, False)
    assert (await take(database)).id == number


async def test_concurrent_claims_never_overlap(database_url: str, database: Database, owner: int) -> None:
    ids = await enqueue(database, owner, 60)

    async def claim_all() -> list[int]:
        claimed = []
        async with await connect(database_url, "claimer") as connection:
            while batch := await claim(connection, 3):
                claimed += [held.id for held in batch]
        return claimed

    claimed = await asyncio.gather(*(claim_all() for _ in range(4)))
    assert sorted(itertools.chain(*claimed)) == ids


# Workers.


QUICK = Tuning(
    poll_s=0.1, renew_s=0.1, survey_s=0.1, jitter_s=0.1, stop_timeout_s=0.3,
    retries=msgspec.structs.replace(queue.RETRIES, base=timedelta(milliseconds=20)),
)  # fmt: skip


@asynccontextmanager
async def readings_locked(url: str) -> AsyncIterator[None]:
    """Lock readings, so that no analysis can proceed."""
    async with await connect(url, "lock") as connection, connection.transaction():
        await connection.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
        yield


async def until_running(database: Database, number: int) -> None:
    await eventually(lambda: look(database, number), lambda seen: seen["status"] == "running")


async def metrics(settings: Settings) -> dict[str, float]:
    async with services.client_of(settings.worker_metrics_port) as client:
        text = (await client.get("/metrics")).text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("devicestat_worker"))
    return {name.removeprefix("devicestat_worker_"): float(value) for name, value in lines}


async def ended_as(settings: Settings, outcome: str) -> float:
    return (await metrics(settings))[f'analyses_total{{outcome="{outcome}"}}']


@pytest.fixture
def measured(api_settings: Settings) -> Settings:
    """Settings of a worker that serves its metrics."""
    return msgspec.structs.replace(api_settings, worker_metrics_port=free_port())


async def test_two_workers_share_fifty_requests(database: Database, owner: int, api_settings: Settings) -> None:
    ids = await enqueue(database, owner, 50)
    async with services.worker(api_settings), services.worker(api_settings):
        for number in ids:
            assert (await until_ended(database, number))["status"] == "done"
    assert sorted(await results(database)) == ids


async def test_a_notification_wakes_a_worker_before_it_polls(
    database: Database, owner: int, api_settings: Settings
) -> None:
    async with services.worker(api_settings, Tuning(poll_s=3600.0)):
        for _ in range(3):
            (number,) = await enqueue(database, owner)
            assert (await until_ended(database, number))["status"] == "done"


async def test_polling_finds_a_request_without_a_notification(
    database: Database, owner: int, api_settings: Settings
) -> None:
    async with services.worker(api_settings, QUICK):
        await database.execute("INSERT INTO analysis_requests (device_id, period) VALUES (%s, '[,]')", (owner,))
        await eventually(lambda: results(database), bool)


async def test_requests_of_a_vanished_worker_are_done_once(database: Database, owner: int, measured: Settings) -> None:
    ids = await enqueue(database, owner, 3)
    await claim(database, 2)  # by a worker that vanishes
    await expire_leases(database)
    async with services.worker(measured, QUICK):
        seen = [await until_ended(database, number) for number in ids]
        assert await ended_as(measured, "done") == 3
    assert [(row["status"], row["attempts"]) for row in seen] == [("done", 2), ("done", 2), ("done", 1)]
    assert sorted(await results(database)) == ids


async def test_cancelling_a_running_analysis(
    api: httpx.AsyncClient, database_url: str, database: Database, owner: int, measured: Settings
) -> None:
    (number,) = await enqueue(database, owner)
    async with services.worker(measured, QUICK):
        async with readings_locked(database_url):
            await until_running(database, number)
            answer = await api.delete(f"/stats/analysis/requests/{number}")
            assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
            await eventually(lambda: ended_as(measured, "cancelled"), lambda count: count == 1)
        (following,) = await enqueue(database, owner)
        assert (await until_ended(database, following))["status"] == "done"
    assert (await look(database, number))["status"] == "cancelled"
    assert await results(database) == [following]


async def test_leases_are_renewed_until_the_analysis_ends(
    database_url: str, database: Database, owner: int, api_settings: Settings
) -> None:
    brief = msgspec.structs.replace(QUICK, lease=timedelta(seconds=0.5))
    (number,) = await enqueue(database, owner)
    async with services.worker(api_settings, brief), services.worker(api_settings, brief):
        async with readings_locked(database_url):
            await until_running(database, number)
            row = await (await database.execute("SELECT now() + interval '1.5 s'")).fetchone()
            assert row is not None

            async def lease_until() -> Any:
                (until,) = (await (await database.execute("SELECT lease_until FROM analysis_requests")).fetchone()) or (
                    None,
                )
                return until

            await eventually(lease_until, lambda until: until > row[0])
        seen = await until_ended(database, number)
    assert (seen["status"], seen["attempts"]) == ("done", 1)


async def test_failed_attempts_are_retried_and_the_last_error_is_stored(
    database: Database, owner: int, measured: Settings
) -> None:
    async with services.worker(measured, QUICK):
        (first,) = await enqueue(database, owner)
        await until_ended(database, first)
        await database.execute("ALTER TABLE readings RENAME COLUMN x TO hidden")
        (number,) = await enqueue(database, owner)
        seen = await until_ended(database, number)
        assert (await ended_as(measured, "retried"), await ended_as(measured, "failed")) == (4, 1)
        assert (seen["status"], seen["attempts"]) == ("failed", queue.RETRIES.max_attempts)
        assert "UndefinedColumn" in seen["last_error"]

        await database.execute("ALTER TABLE readings RENAME COLUMN hidden TO x")
        (again,) = await enqueue(database, owner)
        assert (await until_ended(database, again))["status"] == "done"
    assert await results(database) == [first, again]


async def test_a_worker_that_stops_queues_unfinished_analyses_again(
    database_url: str, database: Database, owner: int, api_settings: Settings
) -> None:
    (number,) = await enqueue(database, owner)
    async with readings_locked(database_url):
        async with services.worker(api_settings, QUICK):
            await until_running(database, number)
        seen = await look(database, number)
    assert (seen["status"], seen["attempts"], seen["leased"]) == ("queued", 0, False)
    async with services.worker(api_settings, QUICK):
        assert (await until_ended(database, number))["status"] == "done"


async def test_a_worker_that_stops_finishes_analyses_in_time(
    database_url: str, database: Database, owner: int, api_settings: Settings
) -> None:
    (number,) = await enqueue(database, owner)
    async with asyncio.TaskGroup() as tasks:
        async with readings_locked(database_url):
            stop = asyncio.Event()
            working = tasks.create_task(service.work(as_role(api_settings, "worker"), stop))
            await until_running(database, number)
            stop.set()
        await working
    assert (await look(database, number))["status"] == "done"


async def test_a_worker_waits_for_the_database(
    postgres_server: str, database_url: str, owner: int, measured: Settings
) -> None:
    async def ready() -> bool:
        return await services.is_ready(measured.worker_metrics_port)

    async with services.worker(measured, QUICK):
        await eventually(ready, bool)
        async with services.database_away(postgres_server, database_url):
            await eventually(ready, lambda is_ready: not is_ready)
        await eventually(ready, bool)
        async with await connect(database_url, "test") as database:
            (number,) = await enqueue(database, owner)
            assert (await until_ended(database, number))["status"] == "done"


async def test_the_worker_creates_the_coming_months(database: Database, api_settings: Settings) -> None:
    async def months() -> list[str]:
        cursor = await database.execute(
            "SELECT to_char(date_trunc('month', now(), 'UTC') + n * interval '1 month', '\"readings_\"YYYY_MM')"
            " FROM generate_series(0, 3) n WHERE to_regclass("
            "  to_char(date_trunc('month', now(), 'UTC') + n * interval '1 month', '\"readings_\"YYYY_MM')) IS NOT NULL"
        )
        return [row[0] for row in await cursor.fetchall()]

    assert len(await months()) == 2
    async with services.worker(api_settings, QUICK):
        await eventually(months, lambda found: len(found) == 4)


async def test_an_unexpected_error_stops_the_worker(database: Database, api_settings: Settings) -> None:
    await database.execute("DROP FUNCTION ensure_readings_partition")
    with pytest.raises(BaseExceptionGroup) as raised:
        async with asyncio.timeout(HANG_S):
            await service.work(as_role(api_settings, "worker"), asyncio.Event())
    assert raised.group_contains(psycopg.errors.UndefinedFunction)


async def test_the_queue_length_is_exported(database: Database, owner: int, measured: Settings) -> None:
    await database.execute(
        "INSERT INTO analysis_requests (device_id, period, run_after)"
        " SELECT %s, '[,]', now() + interval '1 day' FROM generate_series(1, 7)",
        (owner,),
    )

    async def waiting() -> float | None:
        try:
            return (await metrics(measured)).get("queue_length")
        except httpx.TransportError:
            return None

    async with services.worker(measured, QUICK):
        await eventually(waiting, lambda length: length == 7)


def test_no_lease_outlives_its_renewals() -> None:
    assert queue.LEASE.total_seconds() >= 3 * (DEFAULT.renew_s + DEFAULT.jitter_s)
    assert set(service.CHANNELS) == {channels.QUEUED, channels.ENDED, channels.CALLBACKS_DUE}
