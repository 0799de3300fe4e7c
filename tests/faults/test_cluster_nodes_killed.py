"""SIGKILL of each node of a Citus cluster in a stream of readings: each is stored once, and each analysis is right.

Every second kill is aimed at a moment at which a transaction is prepared on a worker.
"""

import asyncio
import operator
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import psycopg
import pytest
from psycopg import sql

from shared.postgres.connections import connect
from shared.settings import Settings
from tests import citus
from tests.conftest import Broker
from tests.faults.cluster_stream import streaming
from tests.faults.sealing_stress import Stress
from tests.faults.test_sealers_killed import ENOUGH, expect_sealed, stressed
from tests.ingestion import IngestorProcess
from tests.waiting import eventually

pytestmark = citus.needs_commands
AIM_S = 8.0
"""Time for which a moment with a prepared transaction is looked for."""
LONGEST_S = 0.6
_SOAK_KILLS = int(os.environ.get("DEVICESTAT_TEST_KILLS", "60"))


def kill(url: str, number: int, counts: Counter[str]) -> None:
    """Kill the node; each second time once a transaction is prepared on a worker. Count the kills, and those that hit
    such a moment."""
    hit, is_aimed = False, counts["kills"] % 2 == 0
    with psycopg.connect(citus.nodes(url)[max(number, 2) - 2], autocommit=True) as connection:
        ends = time.monotonic() + AIM_S
        while is_aimed and not hit and time.monotonic() < ends:
            hit = connection.execute("SELECT FROM pg_prepared_xacts WHERE database = current_database()").rowcount > 0
        citus.command_node("kill", number)
    counts.update({"kills": 1, "hits": hit})


async def let_commits_take_longer(url: str) -> None:
    """Let a moment between PREPARE TRANSACTION and COMMIT PREPARED be hit."""
    async with await connect(url, "test") as database:
        for setting in (sql.SQL("commit_delay = 100000"), sql.SQL("commit_siblings = 0")):
            name = sql.Identifier(database.info.dbname)
            await database.execute(sql.SQL("ALTER DATABASE {} SET ").format(name) + setting)


@pytest.mark.parametrize("kills", [5, pytest.param(_SOAK_KILLS, marks=pytest.mark.soak)])
async def test_each_reading_is_stored_once(
    kills: int,
    make_settings: Callable[..., Settings],
    broker: Broker,
    database_url: str,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    await let_commits_take_longer(database_url)
    chance, counts, in_doubt = random.Random(11), Counter[str](), set[str]()
    async with streaming(make_settings, broker, database_url, start_ingestor, counts) as running:
        for count in range(kills):
            number = (2, 3, citus.COORDINATOR)[count % 3]
            await running.stream.grows(1_000)
            await asyncio.sleep(chance.uniform(0, LONGEST_S))  # the time of the fault, not a wait
            if count == 1:
                await running.delete()
            async with citus.killed(number, partial(kill, database_url, number, counts)):
                await running.stream.grows(200)
                in_doubt |= set(await asyncio.to_thread(citus.prepared, database_url))
            in_doubt |= set(await asyncio.to_thread(citus.prepared, database_url))
            counts["in doubt"] = len(in_doubt)
            await running.process.until_ready()
    assert counts["hits"] > 0


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.soak)])
@pytest.mark.parametrize("number", [2, citus.COORDINATOR])
async def test_a_node_is_away(
    number: int,
    seconds: int,
    make_settings: Callable[..., Settings],
    broker: Broker,
    database_url: str,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    async with streaming(make_settings, broker, database_url, start_ingestor, {"seconds": seconds}) as running:
        await running.stream.grows(1_000)
        await running.delete()
        async with citus.killed(number):
            await asyncio.sleep(seconds)  # the length of the fault, not a wait
        await running.process.until_ready()


@pytest.mark.parametrize("kills", [3, pytest.param(_SOAK_KILLS, marks=pytest.mark.soak)])
async def test_each_analysis_is_right(kills: int, database_url: str) -> None:
    """Late readings, replays and removals of blocks are among what is interrupted."""
    stress, chance, counts = Stress(database_url), random.Random(1), Counter[str]()

    async def progress() -> tuple[int, int]:
        assert not running.done(), stress.wrong
        return stress.sealed, stress.compared

    async with stressed(stress) as running:
        for count in range(kills):
            number = (2, 3, citus.COORDINATOR)[count % 3]
            await asyncio.sleep(chance.uniform(0, LONGEST_S))  # the time of the fault, not a wait
            async with citus.killed(number, partial(kill, database_url, number, counts)):
                pass
            goal = [figure + ENOUGH for figure in await progress()]
            await eventually(progress, lambda figures, goal=goal: all(map(operator.ge, figures, goal)))  # type: ignore[misc]
    assert stress.lost >= stress.kills + kills
    await eventually(partial(asyncio.to_thread, citus.prepared, database_url), lambda found: not found)
    async with await connect(database_url, "test") as database:
        await expect_sealed(database)
