"""Workers are killed, and PostgreSQL crashes, while readings are sealed: each analysis equals a scan (ADR 41)."""

import asyncio
import operator
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from deploy.local.postgres import EmbeddedPostgres
from shared.postgres.connections import Connection, connect
from tests.blocks import assert_sealed
from tests.command import environment
from tests.conftest import Database
from tests.faults.sealing_stress import DEVICES, Stress
from tests.faults.test_postgresql_faults import kill_postmaster, stop_immediately
from tests.roles import url_as
from tests.waiting import HANG_S, eventually

WORKERS = 2
SEALER = [sys.executable, "-P", "-m", "tests.faults.brief_sealer", "work"]
ENOUGH = 3
"""Announcements, or sealed devices and comparisons, from one fault to the next."""
_ANNOUNCED = "SELECT last_value FROM sealed_devices_number_seq"

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start_worker(database_url: str) -> Iterator[Start]:
    """Function that starts a worker; the fixture kills running ones after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        variables = environment(database_url=url_as(database_url, "worker"), worker_metrics_port=0, log_level="error")
        started.append(subprocess.Popen(SEALER, env=variables))
        return started[-1]

    yield start
    for process in started:
        kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


async def number(connection: Connection, query: str) -> int:
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return int(row[0])


@asynccontextmanager
async def stressed(stress: Stress) -> AsyncIterator["asyncio.Task[None]"]:
    """Run the stress for the block. Nothing may be wrong in it."""
    running = asyncio.create_task(stress.run(3600), name="stress")
    try:
        yield running
    finally:
        stress.stop()
        async with asyncio.timeout(HANG_S):
            await running
    assert stress.wrong == []
    assert min(stress.stored, stress.compared) > 0


async def expect_sealed(database: Connection) -> None:
    assert sum([sum(await assert_sealed(database, device)) for device in DEVICES]) > 0


@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.soak)])
async def test_workers_are_killed_while_they_seal(
    kills: int, database: Database, database_url: str, start_worker: Start
) -> None:
    """Another worker takes over, as the locks of the killed one end with its connections."""
    chance = random.Random(1)
    workers = [start_worker() for _ in range(WORKERS)]
    stress = Stress(database_url, sealers=0, base=time.time_ns() // 1000, speed=1)

    async def announced() -> int:
        assert not running.done(), stress.wrong
        return await number(database, _ANNOUNCED)

    async with stressed(stress) as running:
        await eventually(announced, lambda found: found >= len(DEVICES))
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0, 0.5))  # the time of the fault, not a wait
            victim = chance.randrange(WORKERS)
            kill(workers[victim])
            workers[victim] = start_worker()
            goal = await announced() + ENOUGH
            await eventually(announced, lambda found, goal=goal: found >= goal)  # type: ignore[misc]
    for worker in workers:
        kill(worker)
    await expect_sealed(database)


@pytest.mark.parametrize("crashes", [2, pytest.param(50, marks=pytest.mark.soak)])
async def test_postgresql_crashes_while_readings_are_sealed(crashes: int, own_postgres: EmbeddedPostgres) -> None:
    stress = Stress(own_postgres.url)

    async def progress() -> tuple[int, int]:
        assert not running.done(), stress.wrong
        return stress.sealed, stress.compared

    async with stressed(stress) as running:
        for crash in range(crashes):
            goal = [count + ENOUGH for count in await progress()]
            await eventually(progress, lambda counts, goal=goal: all(map(operator.ge, counts, goal)))  # type: ignore[misc]
            await asyncio.to_thread(kill_postmaster if crash % 2 else stop_immediately, own_postgres)
            await asyncio.to_thread(own_postgres.start)
    assert stress.lost >= stress.kills + crashes
    async with await connect(own_postgres.url, "test") as database:
        await expect_sealed(database)
