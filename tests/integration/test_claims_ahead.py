"""Analyses that a worker has claimed ahead, and results that are written together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from query_api.queue import claims as queue
from query_api.queue import requests as analysis_requests
from query_api.queue.claiming import Turns
from query_api.statistics.analysis import Analysis, Asked, analyse
from query_api.statistics.figures import Figures
from query_api.worker.analyses import together
from query_api.worker.analyses.ahead import MOST, Pace
from query_api.worker.analyses.attempts import Attempts
from query_api.worker.analyses.finishing import Finishing
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.tuning import Tuning
from shared.postgres.connections import Connection, Pool, connect, open_pool
from shared.settings import Settings
from tests import locks, services
from tests.conftest import Database
from tests.roles import url_as
from tests.waiting import HANG_S, eventually

SLOW = 1
"""The device whose analysis waits for a lock of its month."""
NO_READINGS = Analysis(*[Figures(min=None, max=None, sum=0, count=0, median=None)] * 3)
PATIENT = Tuning(place_wait_s=3600.0)
_DEVICES = "INSERT INTO devices (key, name) SELECT n, n FROM generate_series(1, %s) n"
_MONTHS = "SELECT ensure_readings_partition('2020-01-01Z')"
_READINGS = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT id, CASE id WHEN 1 THEN timestamptz '2020-01-15Z' ELSE now() END, now(), id, 0, 0 FROM devices
"""
_EXTENTS = """
    INSERT INTO device_extents
    SELECT device_id, month, month + interval '1 month'
    FROM (SELECT device_id, date_trunc('month', recorded_at, 'UTC') AS month FROM readings) AS of
"""
_ASK = "INSERT INTO analysis_requests (device_id, period) SELECT id, '[,]' FROM devices ORDER BY id"


async def ask(database: Database, devices: int) -> None:
    """Add devices with a reading each, and a request for each, with ids from 1."""
    await database.execute(_MONTHS)
    await database.execute(_DEVICES, (devices,))
    for statement in (_READINGS, _EXTENTS, _ASK):
        await database.execute(statement.encode())


@asynccontextmanager
async def slow(url: str) -> AsyncIterator[None]:
    """Lock the month of the slow device for the block."""
    async with await connect(url, "lock") as connection, connection.transaction():
        await connection.execute("LOCK TABLE readings_2020_01 IN ACCESS EXCLUSIVE MODE")
        yield


async def states(database: Database) -> dict[int, tuple[str, int]]:
    rows = await (await database.execute("SELECT id, status, attempts FROM analysis_requests")).fetchall()
    return {request: (status, attempts) for request, status, attempts in rows}


async def results(database: Database) -> list[int]:
    rows = await (await database.execute("SELECT request_id FROM analysis_results ORDER BY request_id")).fetchall()
    return [row[0] for row in rows]


def ended_as(metrics: WorkerMetrics, outcome: str) -> float:
    value: float = metrics.ended.labels(outcome)._value.get()
    return value


class Beginner:
    """Attempts, and their metrics."""

    def __init__(self, pool: Pool, tasks: asyncio.TaskGroup, tuning: Tuning, places: int = 1) -> None:
        self.metrics = WorkerMetrics()
        self.vacant = asyncio.Event()
        self.attempts = Attempts(pool, tasks, self.metrics, self.vacant.set, places, tuning)

    async def until_ended(self) -> None:
        async def count() -> int:
            return len(self.attempts)

        await eventually(count, lambda left: left == 0)


@asynccontextmanager
async def beginner(url: str, tuning: Tuning = PATIENT) -> AsyncIterator[Beginner]:
    async with open_pool(url, "attempts") as pool, asyncio.TaskGroup() as tasks:
        yield Beginner(pool, tasks, tuning)


@pytest.mark.plain_only("a lock of a month holds the reads of all devices on the coordinator")
async def test_small_analyses_end_while_a_slow_one_that_was_claimed_with_them_runs(
    database: Database, database_url: str, api_settings: Settings
) -> None:
    await ask(database, 30)
    async with services.worker(api_settings):
        async with slow(database_url):
            await eventually(lambda: results(database), lambda found: found == list(range(2, 31)))
            assert (await states(database))[SLOW] == ("running", 1)
        await eventually(lambda: results(database), lambda found: found == list(range(1, 31)))


@pytest.mark.plain_only("a lock of a month holds the reads of all devices on the coordinator")
async def test_analyses_that_get_no_place_in_time_are_queued_again(
    database: Database, database_url: str, api_settings: Settings
) -> None:
    """They are not charged with an attempt, and another worker runs them."""
    await ask(database, 5)
    async with beginner(database_url, Tuning(place_wait_s=0.05)) as worker:
        async with slow(database_url):
            worker.attempts.begin(await Turns().claim(database, 5))
            assert (worker.attempts.places, worker.attempts.ahead) == (0, 0)
            returned = {SLOW: ("running", 1)} | dict.fromkeys(range(2, 6), ("queued", 0))
            await eventually(lambda: states(database), lambda seen: seen == returned)
            async with services.worker(api_settings):
                await eventually(lambda: results(database), lambda found: found == [2, 3, 4, 5])
        await worker.until_ended()
        assert (ended_as(worker.metrics, "done"), ended_as(worker.metrics, "returned")) == (1, 4)
    assert await results(database) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("is_notified", [True, False])
async def test_an_analysis_that_is_cancelled_while_it_waits_is_not_computed(
    database: Database, database_url: str, api: httpx.AsyncClient, is_notified: bool
) -> None:
    """With a notification, and at the renewal of the leases."""
    await ask(database, 3)
    async with beginner(database_url) as worker:
        async with slow(database_url):
            worker.attempts.begin(await Turns().claim(database, 3))
            assert (await api.delete("/stats/analysis/requests/2")).status_code == 200
            if is_notified:
                worker.attempts.ended_elsewhere("2")
            else:
                await worker.attempts.renew(database)
        await worker.until_ended()
        assert (ended_as(worker.metrics, "done"), ended_as(worker.metrics, "cancelled")) == (2, 1)
    assert await results(database) == [1, 3]


async def test_the_leases_of_waiting_analyses_are_renewed(database: Database, database_url: str) -> None:
    await ask(database, 3)
    async with beginner(database_url) as worker:
        async with slow(database_url):
            worker.attempts.begin(await Turns().claim(database, 3))
            await database.execute("UPDATE analysis_requests SET lease_until = now() - interval '1 s'")
            await worker.attempts.renew(database)
            assert await queue.reap(database) == {}
        await worker.until_ended()
    assert await results(database) == [1, 2, 3]


async def test_a_worker_that_stops_queues_waiting_analyses_again_at_once(database: Database, database_url: str) -> None:
    await ask(database, 20 + together.MOST)
    async with beginner(database_url) as worker, slow(database_url):
        worker.attempts.begin(await Turns().claim(database, 20 + together.MOST))
        ending = asyncio.create_task(worker.attempts.end(3600), name="stop")
        await eventually(lambda: states(database), lambda seen: set(seen.values()) == {("queued", 0)})
        await ending
    assert await results(database) == []


async def test_nothing_is_claimed_ahead_beside_a_retry(database: Database, database_url: str) -> None:
    await ask(database, 2)
    async with beginner(database_url) as worker:
        for _ in range(100):
            worker.attempts._pace.add(0.001)
        assert worker.attempts.ahead == MOST
        async with slow(database_url):
            await database.execute("UPDATE analysis_requests SET attempts = 1 WHERE id = 1")
            (retry,) = await Turns().claim(database, 1)
            worker.attempts.begin([retry])
            assert worker.attempts.ahead == 0
        await worker.until_ended()
        assert worker.vacant.is_set()


async def test_a_retry_runs_without_analyses_that_wait(
    database: Database, api_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a retry ends its worker again, no waiting analysis loses an attempt."""
    await ask(database, 300)
    await database.execute("UPDATE analysis_requests SET attempts = 1 WHERE id % 50 = 0")
    unended: dict[int, set[int]] = {}

    async def look(connection: Connection, device: int, *_: object) -> Analysis:
        rows = await (await connection.execute("SELECT id FROM analysis_requests WHERE status = 'running'")).fetchall()
        unended[device] = {row[0] for row in rows}.difference(unended)  # those before may not be written yet
        return NO_READINGS

    async def look_at_several(connection: Connection, asked: Sequence[Asked], *_: object) -> list[Analysis]:
        return [await look(connection, one.device_id) for one in asked]

    monkeypatch.setattr("query_api.worker.analyses.attempts.analyse", look)
    monkeypatch.setattr("query_api.worker.analyses.together.analyse_several", look_at_several)
    one = msgspec.structs.replace(api_settings, worker_concurrency=1)
    async with services.worker(one):
        await eventually(lambda: results(database), lambda found: len(found) == 300)
    assert max(map(len, unended.values())) > 10
    assert [unended[device] for device in range(50, 301, 50)] == [{device} for device in range(50, 301, 50)]


def test_analyses_are_claimed_ahead_only_if_the_latest_were_quick() -> None:
    pace = Pace(2)
    assert pace.ahead == 0
    for _ in range(100):
        pace.add(0.01)
    assert pace.ahead in (19, 20)
    for _ in range(100):
        pace.add(0)
    assert pace.ahead == MOST
    pace.add(60)
    assert pace.ahead == 0


# Analyses that are computed together.


def claims_of(*given: tuple[int, list[str], int]) -> deque[queue.Claim]:
    """Return claims with device, figures and attempts; their ids count from 0."""
    return deque(
        queue.Claim(
            id=number, device_id=device, start=None, end=None, figures=figures, attempts=attempts, token=uuid4()
        )
        for number, (device, figures, attempts) in enumerate(given)
    )


def groups_of(waiting: deque[queue.Claim], alone: Sequence[int] = ()) -> list[list[int]]:
    tokens = {held.token for held in waiting if held.id in alone}
    groups = []
    while waiting:
        groups.append([held.id for held in together.take_group(waiting, tokens)])
    return groups


def test_a_group_has_the_same_figures_and_different_devices() -> None:
    mixed = [(1, [], 1), (2, ["mean"], 1), (1, [], 1), (3, [], 1), (4, ["mean"], 1), (5, [], 2), (6, [], 1)]
    assert groups_of(claims_of(*mixed)) == [[0, 3, 6], [1, 4], [2], [5]]
    assert groups_of(claims_of(*mixed), alone=[0, 1]) == [[0], [1], [2, 3, 6], [4], [5]]
    many = claims_of(*((device, [], 1) for device in range(together.MOST + 1)))
    assert [len(group) for group in groups_of(many)] == [together.MOST, 1]


async def test_analyses_of_a_group_are_those_of_each(database: Database, database_url: str) -> None:
    """Each with its own period, and one of a device without readings."""
    await ask(database, 4)
    await database.execute("DELETE FROM readings WHERE device_id = 3")
    await database.execute("UPDATE analysis_requests SET period = '[2020-01-14Z,2020-01-16Z]' WHERE id = 1")
    await database.execute("UPDATE analysis_requests SET period = '[2020-01-16Z,2020-01-17Z]' WHERE id = 2")
    async with beginner(database_url) as worker:
        worker.attempts.begin(await Turns().claim(database, 4))
        await worker.until_ended()
        assert ended_as(worker.metrics, "done") == 4
    rows = await (await database.execute("SELECT x ->> 'count' FROM analysis_results ORDER BY request_id")).fetchall()
    assert [row[0] for row in rows] == ["1", "0", "0", "1"]


async def test_an_analysis_that_fails_in_a_group_fails_alone(
    database: Database, database_url: str, api: httpx.AsyncClient
) -> None:
    """The device of one was deleted, and another one is cancelled meanwhile."""
    await ask(database, 6)
    async with beginner(database_url) as worker:
        held = await Turns().claim(database, 6)
        assert (await api.delete("/devices/2")).status_code == 204
        async with slow(database_url):
            worker.attempts.begin(held)
            assert (await api.delete("/stats/analysis/requests/3")).status_code == 200
            worker.attempts.ended_elsewhere("3")
        await worker.until_ended()
        outcomes = [ended_as(worker.metrics, outcome) for outcome in ("done", "cancelled", "retried")]
    assert outcomes == [4, 1, 1]
    assert await results(database) == [1, 4, 5, 6]


@pytest.mark.plain_only("a lock of a month holds the reads of all devices on the coordinator")
async def test_a_slow_analysis_in_a_group_delays_no_other(database: Database, database_url: str) -> None:
    await ask(database, 10)
    async with open_pool(database_url, "attempts") as pool, asyncio.TaskGroup() as tasks:
        worker = Beginner(pool, tasks, PATIENT, 2)
        async with slow(database_url):
            worker.attempts.begin(await Turns().claim(database, 10))
            await eventually(lambda: results(database), lambda found: found == list(range(2, 11)))
        await worker.until_ended()
    assert await results(database) == list(range(1, 11))


# Results that are written together.


async def computed(database: Database, count: int) -> list[tuple[queue.Claim, Analysis]]:
    held = await Turns().claim(database, count)
    return [(one, await analyse(database, one.device_id, one.start, one.end)) for one in held]


async def test_results_are_written_together_except_those_of_lost_claims(database: Database, database_url: str) -> None:
    await ask(database, 5)
    ended = await computed(database, 5)
    await analysis_requests.cancel(database, 2, analysis_requests.ANYBODY)
    await queue.give_back(database, [ended[3][0].token])
    async with await connect(url_as(database_url, "worker"), "worker") as worker:
        assert await queue.finish_all(worker, ended) == {1, 3, 5}
        assert await queue.finish_all(worker, ended) == set()
    assert await results(database) == [1, 3, 5]
    assert {status for status, _ in (await states(database)).values()} == {"done", "cancelled", "queued"}
    rows = await (await database.execute("SELECT device_id, x ->> 'sum' FROM analysis_results")).fetchall()
    assert [(device, float(x)) for device, x in rows] == [(1, 1.0), (3, 3.0), (5, 5.0)]


async def test_results_that_become_ready_together_are_written_together(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is written at once, and the others in the next statement."""
    await ask(database, 30)
    ended = await computed(database, 30)
    written: list[int] = []
    is_writing = asyncio.Event()

    async def finish_all(connection: Connection, some: Sequence[tuple[queue.Claim, Analysis]]) -> set[int]:
        written.append(len(some))
        is_writing.set()
        return await finish_together(connection, some)

    finish_together = queue.finish_all
    monkeypatch.setattr(queue, "finish_all", finish_all)
    async with open_pool(database_url, "results") as pool, asyncio.TaskGroup() as tasks:
        finishing = Finishing(pool, tasks)
        first = tasks.create_task(finishing.finish(*ended[0]), name="finish")
        await is_writing.wait()
        assert await asyncio.gather(*(finishing.finish(*one) for one in ended[1:])) == [True] * 29
        assert await first
    assert written == [1, 29]


async def test_results_do_not_wait_for_the_locks_of_others(database: Database, database_url: str) -> None:
    """A device and a request are locked, as in a deletion and a cancellation that take long."""
    await ask(database, 4)
    ended = await computed(database, 4)
    async with open_pool(database_url, "results") as pool, asyncio.TaskGroup() as tasks:
        finishing = Finishing(pool, tasks)
        async with await connect(database_url, "lock") as other, other.transaction():
            await other.execute("SELECT FROM devices WHERE id = 2 FOR UPDATE")
            await other.execute("SELECT FROM analysis_requests WHERE id = 3 FOR UPDATE")
            written = [tasks.create_task(finishing.finish(*one), name="finish") for one in ended]
            await eventually(lambda: results(database), lambda found: found == [1, 4])
        assert await asyncio.gather(*written) == [True] * 4
    assert await results(database) == [1, 2, 3, 4]


async def test_results_that_wait_for_a_lock_leave_connections_for_others(database: Database, database_url: str) -> None:
    """A device is being deleted, and has more results than the pool has connections."""
    await ask(database, 2)
    await database.execute(
        "INSERT INTO analysis_requests (device_id, period) SELECT 1, '[,]' FROM generate_series(2, 21)"
    )
    ended = await computed(database, 22)
    async with open_pool(database_url, "results", max_size=5, patience=HANG_S) as pool, asyncio.TaskGroup() as tasks:
        finishing = Finishing(pool, tasks)
        async with await connect(database_url, "lock") as other, other.transaction():
            await other.execute("SELECT FROM devices WHERE id = 1 FOR UPDATE")
            locked = [one for one in ended if one[0].device_id == 1]
            written = [tasks.create_task(finishing.finish(*one), name="finish") for one in locked]
            await eventually(lambda: locks.waiting(database), bool)
            async with asyncio.timeout(HANG_S / 2):
                assert await asyncio.gather(*(finishing.finish(*one) for one in ended if one not in locked)) == [True]
        assert await asyncio.gather(*written) == [True] * 21


async def test_a_result_that_the_database_refuses_holds_up_no_other(database: Database, database_url: str) -> None:
    await ask(database, 3)
    await database.execute("ALTER TABLE analysis_results ADD CONSTRAINT refused CHECK (device_id <> 2)")
    ended = await computed(database, 3)
    async with open_pool(database_url, "results") as pool, asyncio.TaskGroup() as tasks:
        finishing = Finishing(pool, tasks)
        written: list[Any] = await asyncio.gather(*(finishing.finish(*one) for one in ended), return_exceptions=True)
    assert written[::2] == [True, True]
    assert "refused" in str(written[1])
    assert await results(database) == [1, 3]


async def test_requests_that_are_queued_again_are_notified(database: Database, database_url: str) -> None:
    await ask(database, 2)
    held = await Turns().claim(database, 2)
    async with await connect(database_url, "listener") as listener:
        await listener.execute("LISTEN analysis_requests")
        await queue.give_back(database, [one.token for one in held])
        assert [notify.channel async for notify in listener.notifies(stop_after=1)] == ["analysis_requests"]
