"""A stream of readings of 200 devices into a Citus cluster, to which something happens: each is stored once, by value.

Meanwhile a worker removes a deleted device, and drops a month.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import psycopg

from query_api.worker.tuning import Tuning
from shared.errors import DatabaseError
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import citus
from tests.conftest import Broker
from tests.faults.stream import MARKERS, Stream, expect_a_good_end, expect_counts_to_add_up
from tests.ingestion import IngestorProcess
from tests.services import worker
from tests.waiting import eventually

DEVICES = 200
RATE = 2_000.0
REMOVED = 5_000
DELETED, OLD = 900, 901
"""A device that the test deletes, and one with a month that retention drops."""

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


class Streaming(msgspec.Struct, frozen=True):
    """A running stream, and its ingestor."""

    url: str
    stream: Stream
    process: IngestorProcess

    async def delete(self) -> None:
        """Delete a device with readings, in spite of failures."""

        async def act() -> bool:
            try:
                await ask(self.url, _DELETE, DELETED)
            except (psycopg.Error, DatabaseError):
                return False
            return True

        await eventually(act, bool)


@asynccontextmanager
async def streaming(
    make_settings: Callable[..., Settings],
    broker: Broker,
    url: str,
    start_ingestor: Callable[..., IngestorProcess],
    counts: Mapping[str, int],
) -> AsyncIterator[Streaming]:
    """Run the stream for the block, in which the test deletes the device; then compare what is stored.

    `counts`: what the test has counted, to print beside the number of readings.
    """
    await _store_what_goes(url)
    settings = make_settings(retention="45d")
    process = start_ingestor(settings)
    await process.until_ready()
    stream = Stream(broker, rate=RATE, keys=[f"d{n}" for n in range(1001, 1001 + DEVICES)])
    await stream.start()
    try:
        async with worker(settings, Tuning(remove_s=1, maintain_s=5, seal_s=1)):
            yield Streaming(url, stream, process)
            await stream.grows(1_000)
            await stream.halt()
            await _expect_each_number_once(url, stream)
            await eventually(partial(_left, url), lambda found: found == (0, 0, None))
    finally:
        await stream.halt()
        sys.stderr.write(f"{ {'published': stream.count, **counts} }\n")
    await expect_counts_to_add_up(process.port)
    await expect_a_good_end(process)


async def ask(url: str, query: str, *parameters: object) -> list[tuple[object, ...]]:
    """Return the rows, by a connection of its own: earlier ones may have ended with a node."""
    async with await connect(url, "test") as connection:
        cursor = await connection.execute(query.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []


async def _store_what_goes(url: str) -> None:
    """Store the devices of the stream, and what the worker has to remove."""
    await ask(url, _REGISTER, [2, DELETED, OLD, *range(1001, 1001 + DEVICES)])
    recently = datetime.now(UTC) - timedelta(hours=2)
    for device, since in ((OLD, datetime(2020, 1, 15, tzinfo=UTC)), (DELETED, recently)):
        await ask(url, _MAKE, since)
        await ask(url, _FILL, device, since, REMOVED)


async def _left(url: str) -> tuple[object, ...]:
    """Return the deletions that are not done, the rows of what is removed, and the old month."""
    return (await ask(url, _LEFT))[0]


async def _expect_each_number_once(url: str, stream: Stream) -> None:
    await stream.mark()

    async def marked() -> int:
        return int(str((await ask(url, _MARKED))[0][0]))

    await eventually(marked, lambda seen: seen >= MARKERS)
    # What a failure has left prepared is seen when Citus has recovered it.
    await eventually(partial(asyncio.to_thread, citus.prepared, url), lambda found: not found)
    numbers = [int(str(number)) for (number,) in await ask(url, _NUMBERS)]
    sys.stderr.write(f"{ {'rows': len(numbers), 'distinct': len(set(numbers)), 'markers': await marked()} }\n")
    assert sorted(numbers) == list(range(stream.count))
