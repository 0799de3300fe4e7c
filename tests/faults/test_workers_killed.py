"""SIGKILL of one of three workers: each analysis has one result, after any number of attempts."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from shared.settings import Settings
from tests import services
from tests.command import argv, environment
from tests.conftest import Database
from tests.ports import free_port
from tests.roles import url_as
from tests.waiting import eventually

WORKERS = 3
BRIEF = [sys.executable, "-P", "-m", "tests.faults.brief_worker", "work"]
START = "INSERT INTO devices (key, name) SELECT 'd' || n, 'd' FROM generate_series(1, 10) n"
READINGS = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT id, now() - n * interval '1 ms', now(), n %% 1000, -(n %% 7), n %% 13
    FROM devices, generate_series(1, %s) n
"""
REQUESTS = "INSERT INTO analysis_requests (device_id, period) SELECT 1 + n %% 10, '[,]' FROM generate_series(1, %s) n"


class Worker:
    """A worker process."""

    def __init__(self, settings: Settings, command: list[str]) -> None:
        self.port = free_port()
        variables = environment(
            database_url=url_as(settings.database, "worker"), worker_metrics_port=self.port, log_level="error"
        )
        self.process = subprocess.Popen(command, env=variables)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_worker(api_settings: Settings) -> Iterator[Callable[[list[str]], Worker]]:
    """Function that starts a worker; the fixture kills running ones after the test."""
    started: list[Worker] = []

    def start(command: list[str]) -> Worker:
        started.append(Worker(api_settings, command))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
def api_settings(database_url: str) -> Settings:
    return Settings(database_url=database_url)


async def ended(database: Database) -> int:
    row = await (
        await database.execute("SELECT count(*) FROM analysis_requests WHERE finished_at IS NOT NULL")
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("command", "analyses", "readings", "kills"),
    [
        (BRIEF, 60, 20_000, 3),
        pytest.param(argv("work"), 1000, 60_000, 20, marks=pytest.mark.soak),
    ],
)
async def test_every_analysis_has_one_result(
    database: Database,
    start_worker: Callable[[list[str]], Worker],
    command: list[str],
    analyses: int,
    readings: int,
    kills: int,
) -> None:
    chance = random.Random(11)
    await database.execute(START)
    await database.execute(READINGS, (readings,))
    await database.execute("VACUUM ANALYZE readings")
    workers = [start_worker(command) for _ in range(WORKERS)]
    for worker in workers:
        await eventually(lambda port=worker.port: services.is_ready(port), bool)  # type: ignore[misc]
    await database.execute(REQUESTS, (analyses,))
    await database.execute("NOTIFY analysis_requests")
    struck = 0
    for kill in range(kills):
        due = analyses * kill // (kills + 1)
        await eventually(lambda: ended(database), lambda done, due=due: done >= due)  # type: ignore[misc]
        await asyncio.sleep(chance.uniform(0, 0.05))  # the time of the fault, not a wait
        victim = chance.randrange(WORKERS)
        workers[victim].kill()
        cursor = await database.execute("SELECT count(*) FROM analysis_requests WHERE status = 'running'")
        struck += sum(row[0] for row in await cursor.fetchall())
        workers[victim] = start_worker(command)
    assert struck > 0
    await eventually(lambda: ended(database), lambda done: done == analyses)
    cursor = await database.execute(
        "SELECT request.id, request.status, count(result.id), min((result.x ->> 'count')::int)"
        " FROM analysis_requests AS request LEFT JOIN analysis_results AS result ON request_id = request.id"
        " GROUP BY request.id ORDER BY request.id"
    )
    assert await cursor.fetchall() == [(number, "done", 1, readings) for number in range(1, analyses + 1)]
    cursor = await database.execute("SELECT count(*) FROM analysis_requests WHERE attempts > 1")
    assert sum(row[0] for row in await cursor.fetchall()) > 0, "no kill interrupted an analysis"
