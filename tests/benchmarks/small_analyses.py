"""The analysis of a thousand readings, before and after they are sealed, against the SQL aggregates of ADR 13."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

from deploy.local.postgres import EmbeddedPostgres
from query_api.statistics import analysis
from query_api.statistics.blocks.sealing.announcing import announce
from query_api.statistics.blocks.sealing.sealing import seal_step
from shared.postgres.connections import Connection, connect
from shared.readings.extents import extent_of
from shared.readings.model import to_microseconds
from tests.benchmarks.pairs import Finding, Ratio, warmed

READINGS = 1_000
DEVICE = 1_000_001
TIMES = 200
"""Analyses of a measurement, which is their median."""
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=1)
_ADD_DEVICE = "INSERT INTO devices (id, key, name) VALUES (%s, 'small', 'small')"
_MAKE_MONTHS = "SELECT ensure_readings_partition(%s + make_interval(months => n)) FROM generate_series(0, 11) AS n"
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %s, %s + n * %s, now(), random(), 100 * sin(n), n %% 7 FROM generate_series(1, %s) AS n
"""
_ADD_EXTENT = "INSERT INTO device_extents VALUES (%s, %s, %s)"
_ENROL = "INSERT INTO sealed_devices (device_id) VALUES (%s)"
_FIGURES = ", ".join(
    f"""min({axis}), max({axis}), sum(round({axis} * 1024)) / 1024 + sum({axis} - round({axis} * 1024) / 1024),
        count({axis}), percentile_disc(ARRAY[0.5, 0.5000000001]) WITHIN GROUP (ORDER BY {axis})"""
    for axis in "xyz"
)
_SCAN = f"""
    SELECT ARRAY(SELECT id FROM devices WHERE id = ANY(%s::bigint[])), {_FIGURES}
    FROM readings WHERE device_id = ANY(%s::bigint[]) AND recorded_at >= %s AND recorded_at <= %s
""".encode()  # noqa: S608  # constants


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure the milliseconds of an analysis."""
    with asyncio.Runner() as runner:
        connection = runner.run(connect(postgres.url, "bench"))
        try:
            runner.run(_fill(connection))

            def ours() -> float:
                return runner.run(_timed(lambda: _analyse(connection)))

            def scan() -> float:
                return runner.run(_timed(lambda: _scan(connection)))

            yield _ratio("not sealed", *warmed(ours, scan))
            runner.run(_seal(connection))
            yield _ratio("sealed", *warmed(ours, scan))
        finally:
            runner.run(connection.close())


def _ratio(state: str, ours: list[float], scan: list[float]) -> Ratio:
    return Ratio(f"analysis of 10^3 readings, {state}", "a scan by SQL aggregates", "ms", ours, scan, "<= 1.0")


async def _fill(connection: Connection) -> None:
    await connection.execute(_ADD_DEVICE, (DEVICE,))
    await connection.execute(_MAKE_MONTHS, (FIRST,))
    await connection.execute(_FILL, (DEVICE, FIRST, STEP, READINGS))
    await connection.execute(_ADD_EXTENT, (DEVICE, FIRST, FIRST + timedelta(days=31)))
    await connection.execute("VACUUM ANALYZE readings")


async def _seal(connection: Connection) -> None:
    until = to_microseconds(FIRST + (READINGS + 1) * STEP)
    await connection.execute(_ENROL, (DEVICE,))
    await announce(connection, {DEVICE: until})
    await seal_step(connection, DEVICE, until)


async def _timed(read: Callable[[], Awaitable[None]]) -> float:
    """Return milliseconds."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        await read()
        taken.append(1_000 * (time.perf_counter() - began))
    return statistics.median(taken)


async def _analyse(connection: Connection) -> None:
    found = await analysis.analyse(connection, DEVICE, None, None)
    assert found.x.count == READINGS


async def _scan(connection: Connection) -> None:
    """As the analysis of one device was before blocks: the extent, and one statement that is planned each time."""
    first, last = (await extent_of(connection, [DEVICE])).within(None, None)
    parameters = [DEVICE], [DEVICE], first, last
    row = await (await connection.execute(_SCAN, parameters, prepare=False, binary=True)).fetchone()
    assert row is not None
    assert row[4] == READINGS
