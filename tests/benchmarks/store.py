"""A batch of new readings into the table: straight, and through the staging table (ADR 15)."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from deploy.local.postgres import EmbeddedPostgres
from shared.postgres.connections import Connection, connect
from shared.readings import store as readings
from shared.readings.announcements import Announcements
from shared.readings.model import Reading
from shared.readings.partitions import Partitions
from shared.readings.store import Stored
from tests.benchmarks.generator import DEVICES
from tests.benchmarks.pairs import Ratio, warmed

BATCH = 5_000
BATCHES = 20

_Way = Callable[[Connection, Sequence[Reading], Announcements], Awaitable[Stored]]


def measure(postgres: EmbeddedPostgres) -> Iterator[Ratio]:
    """Measure the milliseconds of a batch, including its transaction."""
    with asyncio.Runner() as runner:
        connection = runner.run(_prepared(postgres.url))
        batches = _batches()
        straight, staged = (
            lambda way=way: runner.run(_stored(connection, way, batches))
            for way in (readings.store_new, readings.store)
        )
        ours, peer = warmed(straight, staged)
        runner.run(connection.close())
    yield Ratio(f"a batch of {BATCH:,} new readings, direct COPY", "through the staging table", "ms", ours, peer)


async def _prepared(url: str) -> Connection:
    connection = await connect(url, "bench")
    await readings.prepare(connection)
    return connection


def _batches() -> Iterator[list[Reading]]:
    """Return batches without end, each with its own times."""
    chance, moment = random.Random(1), time.time_ns() // 1000
    while True:
        yield [
            Reading(n % DEVICES + 1, moment + n, moment + n, chance.random(), chance.random(), chance.random())
            for n in range(BATCH)
        ]
        moment += BATCH


async def _stored(connection: Connection, way: _Way, batches: Iterator[list[Reading]]) -> float:
    given = [next(batches) for _ in range(BATCHES)]
    for batch in given:
        await Partitions().ensure(connection, batch)
    began = time.monotonic()
    for batch in given:
        async with connection.transaction():
            assert await way(connection, batch, Announcements()) == Stored(BATCH, 0)
    return (time.monotonic() - began) / BATCHES * 1000
