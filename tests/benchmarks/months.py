"""Reads with 700 months, with and without the device's extent; and the cost of new months for writers (ADR 28)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime

from deploy.local.postgres import EmbeddedPostgres
from query_api.readings.summaries import summarize
from query_api.statistics.analysis import analyse
from shared.postgres.connections import Connection, connect
from shared.readings.extents import month_of, start_of, widen
from shared.readings.model import Reading, to_microseconds
from shared.readings.partitions import Partitions
from tests.benchmarks.pairs import Finding, Ratio, warmed

MONTHS = 700
BOUNDED, UNBOUNDED, BACKFILL = 1, 2, 3
"""Devices: two with readings in the same two months, one of them without an extent; and one that creates months."""
READS = 20
FIRST = month_of(datetime(1960, 1, 1, tzinfo=UTC))
TWO = month_of(datetime(2026, 1, 1, tzinfo=UTC))
PAUSE_S = 0.005

_MAKE = "SELECT ensure_readings_partition(month) FROM generate_series(%s, %s, interval '1 month') AS month"
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device, %s + n * interval '1 hour', now(), n %% 1000, 2, 3
    FROM unnest(%s::bigint[]) AS device, generate_series(0, 999) AS n
"""
_STORE = "INSERT INTO readings (device_id, recorded_at, received_at, x, y, z) VALUES (1, now(), now(), random(), 2, 3)"


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure the milliseconds of a read of a device with readings in two months."""
    with asyncio.Runner() as runner:
        connection = runner.run(connect(postgres.url, "bench"))
        yield runner.run(_making(postgres.url))
        runner.run(_fill(connection))
        for name, read in _READS.items():
            ours, peer = warmed(
                lambda read=read: runner.run(_timed(connection, read, BOUNDED)),  # type: ignore[misc]
                lambda read=read: runner.run(_timed(connection, read, UNBOUNDED)),  # type: ignore[misc]
            )
            yield Ratio(f"{name}, on {MONTHS} months", "without an extent", "ms", ours, peer)
        runner.run(connection.close())


_READS: dict[str, Callable[[Connection, int], Awaitable[object]]] = {
    "an analysis of a device's two months": lambda connection, device: analyse(connection, device, None, None),
    "a device in short": lambda connection, device: summarize(connection, [device]),
}


async def _fill(connection: Connection) -> None:
    await connection.execute(_MAKE, (start_of(FIRST), start_of(FIRST + MONTHS - 1)))
    await connection.execute(_MAKE, (start_of(TWO), start_of(TWO + 1)))
    await connection.execute(_FILL, (start_of(TWO), [BOUNDED, UNBOUNDED]))
    await connection.execute("DELETE FROM device_extents")
    await widen(connection, {BOUNDED: (TWO, TWO + 1)})
    await connection.execute("VACUUM ANALYZE readings")


async def _timed(connection: Connection, read: Callable[[Connection, int], Awaitable[object]], device: int) -> float:
    began = time.monotonic()
    for _ in range(READS):
        await read(connection, device)
    return (time.monotonic() - began) / READS * 1000


async def _making(url: str) -> str:
    """Create ten years of months for one batch, while another writer stores a reading every few milliseconds."""
    batch = [Reading(BACKFILL, to_microseconds(start_of(TWO - back)), 0, 1, 2, 3) for back in range(1, 122)]
    async with await connect(url, "bench") as writer, await connect(url, "bench") as other:
        alone = await _longest(other, asyncio.create_task(asyncio.sleep(0.5)))
        began = time.monotonic()
        making = asyncio.create_task(Partitions().ensure(writer, batch))
        beside = await _longest(other, making)
        took = time.monotonic() - began
    return (
        f"{len(batch)} months for one batch: {took * 1000:.0f} ms. Meanwhile another writer's reading took "
        f"{beside * 1000:.0f} ms at most, {alone * 1000:.0f} ms alone"
    )


async def _longest(connection: Connection, work: "asyncio.Task[None]") -> float:
    """Measure the longest store of a reading during the work, in seconds."""
    longest = 0.0
    while not work.done():
        began = time.monotonic()
        await connection.execute(_STORE)
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(PAUSE_S)
    await work
    return longest
