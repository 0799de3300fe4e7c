"""The analysis of a thousand devices with 10^4 readings each, of which 500 are not sealed, against its target."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np

from deploy.local.postgres import EmbeddedPostgres
from query_api.statistics import analysis
from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.layout import BASE, STANDARD
from query_api.statistics.blocks.tables import insert_read
from shared.postgres.connections import Connection, connect
from shared.readings.model import SECOND, to_microseconds
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, target

DEVICES = range(2_000_000, 2_001_000)
SEALED, UNSEALED = 9_500, 500
"""Readings of each device, a minute apart. The sealed ones are a block that is made directly, without rows."""
TIMES = 3
"""Analyses of a measurement, which is their median."""
TARGET_MS = 400.0
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
EDGE = FIRST + timedelta(minutes=SEALED)
_ADD_DEVICES = "INSERT INTO devices (id, key, name) SELECT n, 'many-' || n, 'many' FROM generate_series(%s::int, %s) n"
_ADD_EXTENTS = "INSERT INTO device_extents SELECT n, %s, %s FROM generate_series(%s::int, %s) AS n"
_ADD_SEALED = """
    INSERT INTO sealed_devices (device_id, announced, sealed) SELECT n, %s, %s FROM generate_series(%s::int, %s) AS n
"""
_MAKE_MONTH = "SELECT ensure_readings_partition(%s)"
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device, %s + n * interval '1 minute', now(), random(), 100 * sin(n), n %% 7
    FROM generate_series(%s::int, %s) AS device, generate_series(0, %s - 1) AS n
"""


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure the milliseconds of an analysis."""
    with asyncio.Runner() as runner:
        connection = runner.run(connect(postgres.url, "bench"))
        try:
            runner.run(_fill(connection))
            for name, read in (("together", _together), ("each", _each)):
                runner.run(_timed(connection, read))
                ours = [runner.run(_timed(connection, read)) for _ in range(PAIRS)]
                title = f"analysis of 1,000 devices with 10^4 readings, {name}"
                yield Ratio(title, "the target", "ms", ours, target(TARGET_MS), "<= 1.0")
        finally:
            runner.run(connection.close())


async def _fill(connection: Connection) -> None:
    ends = DEVICES[0], DEVICES[-1]
    await connection.execute(_ADD_DEVICES, ends)
    await connection.execute(_MAKE_MONTH, (FIRST,))
    await connection.execute(_ADD_EXTENTS, (FIRST, FIRST + timedelta(days=31), *ends))
    await connection.execute(_FILL, (EDGE, *ends, UNSEALED))
    async with connection.transaction():
        for device in DEVICES:
            await insert_read(connection, device, [(BASE, _readings(device))], STANDARD)
        await connection.execute(_ADD_SEALED, (EDGE, EDGE, *ends))
    await connection.execute("VACUUM ANALYZE")


def _readings(device: int) -> Columns:
    dice = np.random.default_rng(device)
    times = to_microseconds(FIRST) + 60 * SECOND * np.arange(SEALED)
    return Columns(times, dice.normal(0, 100, SEALED), dice.random(SEALED), dice.normal(20, 1, SEALED).round(2))


async def _timed(connection: Connection, read: Callable[[Connection], Awaitable[None]]) -> float:
    """Return milliseconds."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        await read(connection)
        taken.append(1_000 * (time.perf_counter() - began))
    return statistics.median(taken)


async def _together(connection: Connection) -> None:
    found = await analysis.analyse(connection, DEVICES, None, None)
    assert found.x.count == len(DEVICES) * (SEALED + UNSEALED)


async def _each(connection: Connection) -> None:
    found = await analysis.analyse_each(connection, DEVICES, None, None)
    assert {one.x.count for one in found.values()} == {SEALED + UNSEALED}
