"""SIGKILL of each node of a Citus cluster in a stream of readings of 200 devices: each is stored once, by value.

Every second kill is aimed at a moment at which a transaction is prepared on a worker. Meanwhile a worker removes a
deleted device, drops a month, and seals.
"""

import asyncio
import operator
import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial

import psycopg
import pytest
from psycopg import sql

from query_api.worker.tuning import Tuning
from shared.errors import DatabaseError
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import citus
from tests.conftest import Broker
from tests.faults.sealing_stress import Stress
from tests.faults.stream import MARKERS, Stream, expect_a_good_end, expect_counts_to_add_up
from tests.faults.test_sealers_killed import ENOUGH, expect_sealed, stressed
from tests.ingestion import IngestorProcess
from tests.services import worker
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(
    not (citus.WORKERS and citus.NODE_COMMAND),
    reason="DEVICESTAT_TEST_CITUS_WORKERS and DEVICESTAT_TEST_CITUS_NODE_COMMAND name no cluster",
)
COORDINATOR = 1
DEVICES = 200
RATE = 2_000.0
AIM_S = 8.0
"""Time for which a moment with a prepared transaction is looked for."""
LONGEST_S = 0.6
REMOVED = 5_000
DELETED, OLD = 900, 901
"""A device that is deleted at the first kill, and one with a month that retention drops."""

_REGISTER = """
    INSERT INTO devices (id, key, name)
    SELECT n, CASE n WHEN 2 THEN '2' ELSE 'd' || n END, 'n'
    FROM unnest(%s::int[]) n
"""
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %s, %s::timestamptz + n * interval '1 s', now(), -(n %% 1000), -1, 0 FROM generate_series(1, %s::int) n
"""
_MAKE = "SELECT ensure_readings_partition(%s)"
_DELETE = """
    WITH gone AS (DELETE FROM devices WHERE id = %s RETURNING id, key)
    INSERT INTO deleted_devices (device_id, key) SELECT id, key FROM gone
"""
_NUMBERS = """
    SELECT round(x * 1000)::bigint + 1000000 * y::bigint FROM readings WHERE device_id BETWEEN 1001 AND 1200
"""
_MARKED = "SELECT count(*) FROM readings WHERE device_id = 2"
_LEFT = """
    SELECT (SELECT count(*) FROM deleted_devices WHERE removed_at IS NULL),
           (SELECT count(*) FROM readings WHERE device_id IN (900, 901)),
           to_regclass('readings_2020_01')::text
"""


async def ask(url: str, query: str, *parameters: object) -> list[tuple[object, ...]]:
    """Return the rows, by a connection of its own: earlier ones have ended with a node."""
    async with await connect(url, "test") as connection:
        return await (await connection.execute(query.encode(), parameters)).fetchall()


def kill(url: str, number: int, *, is_aimed: bool) -> bool:
    """Kill the node; if aimed, once a transaction is prepared on a worker. Return whether one was."""
    hit = False
    with psycopg.connect(citus.nodes(url)[max(number, 2) - 2], autocommit=True) as connection:
        ends = time.monotonic() + AIM_S
        while is_aimed and not hit and time.monotonic() < ends:
            hit = connection.execute("SELECT FROM pg_prepared_xacts WHERE database = current_database()").rowcount > 0
        citus.command_node("kill", number)
    return hit


async def store_what_goes(url: str) -> None:
    """Store the devices of the stream, and what the worker has to remove. Let commits take longer, so that a moment
    between PREPARE TRANSACTION and COMMIT PREPARED can be hit."""
    async with await connect(url, "test") as database:
        for setting in (sql.SQL("commit_delay = 100000"), sql.SQL("commit_siblings = 0")):
            name = sql.Identifier(database.info.dbname)
            await database.execute(sql.SQL("ALTER DATABASE {} SET ").format(name) + setting)
        await database.execute(_REGISTER, ([2, DELETED, OLD, *range(1001, 1001 + DEVICES)],))
        await database.execute(_MAKE, ("2020-01-15",))
        await database.execute(_FILL, (OLD, "2020-01-15", REMOVED))
        await database.execute(_FILL, (DELETED, "2026-11-20", REMOVED))


async def in_spite_of_kills(url: str, statement: str, *parameters: object) -> None:
    """Execute the statement until it succeeds."""

    async def act() -> bool:
        try:
            async with await connect(url, "test") as connection:
                await connection.execute(statement.encode(), parameters)
        except (psycopg.Error, DatabaseError):
            return False
        return True

    await eventually(act, bool)


@pytest.mark.parametrize(
    "kills", [5, pytest.param(int(os.environ.get("DEVICESTAT_TEST_KILLS", "60")), marks=pytest.mark.soak)]
)
async def test_each_reading_is_stored_once(
    kills: int,
    make_settings: Callable[..., Settings],
    broker: Broker,
    database_url: str,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    await store_what_goes(database_url)
    settings, chance = make_settings(retention="45d"), random.Random(11)
    process = start_ingestor(settings)
    await process.until_ready()
    stream = Stream(broker, rate=RATE, keys=[f"d{n}" for n in range(1001, 1001 + DEVICES)])
    await stream.start()
    hits, in_doubt = 0, set[str]()
    try:
        async with worker(settings, Tuning(remove_s=1, maintain_s=5, seal_s=1)):
            for count in range(kills):
                number = (2, 3, COORDINATOR)[count % 3]
                await stream.grows(1_000)
                await asyncio.sleep(chance.uniform(0, LONGEST_S))  # the time of the fault, not a wait
                if count == 1:
                    await in_spite_of_kills(database_url, _DELETE, DELETED)
                hits += await asyncio.to_thread(kill, database_url, number, is_aimed=count % 2 == 0)
                await stream.grows(200)
                in_doubt |= set(await asyncio.to_thread(citus.prepared, database_url))
                await asyncio.to_thread(citus.command_node, "start", number)
                in_doubt |= set(await asyncio.to_thread(citus.prepared, database_url))
                await process.until_ready()
            await stream.grows(1_000)
            await stream.halt()
            await expect_each_number_once(database_url, stream)
            await eventually(partial(left, database_url), lambda found: found == (0, 0, None))
    finally:
        await stream.halt()
        counts = {"published": stream.count, "kills": kills, "aimed ones hit": hits, "in doubt": len(in_doubt)}
        sys.stderr.write(f"{counts}\n")
    await eventually(partial(asyncio.to_thread, citus.prepared, database_url), lambda found: not found)
    await expect_counts_to_add_up(process.port)
    await expect_a_good_end(process)


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.soak)])
async def test_each_analysis_is_right_while_nodes_are_killed(kills: int, database_url: str) -> None:
    """Late readings, replays and removals of blocks are among what is interrupted."""
    stress = Stress(database_url)
    chance = random.Random(1)

    async def progress() -> tuple[int, int]:
        assert not running.done(), stress.wrong
        return stress.sealed, stress.compared

    async with stressed(stress) as running:
        for count in range(kills):
            number = (2, 3, COORDINATOR)[count % 3]
            await asyncio.sleep(chance.uniform(0, LONGEST_S))  # the time of the fault, not a wait
            await asyncio.to_thread(kill, database_url, number, is_aimed=count % 2 == 0)
            await asyncio.to_thread(citus.command_node, "start", number)
            goal = [figure + ENOUGH for figure in await progress()]
            await eventually(progress, lambda figures, goal=goal: all(map(operator.ge, figures, goal)))  # type: ignore[misc]
    assert stress.lost >= kills
    await eventually(partial(asyncio.to_thread, citus.prepared, database_url), lambda found: not found)
    async with await connect(database_url, "test") as database:
        await expect_sealed(database)


async def left(url: str) -> tuple[object, ...]:
    """Return the deletions that are not done, the rows of what is removed, and the old month."""
    return (await ask(url, _LEFT))[0]


async def expect_each_number_once(url: str, stream: Stream) -> None:
    await stream.mark()

    async def marked() -> int:
        return int(str((await ask(url, _MARKED))[0][0]))

    await eventually(marked, lambda seen: seen >= MARKERS)
    numbers = [int(str(number)) for (number,) in await ask(url, _NUMBERS)]
    sys.stderr.write(f"{ {'rows': len(numbers), 'distinct': len(set(numbers)), 'markers': await marked()} }\n")
    assert sorted(numbers) == list(range(stream.count))
