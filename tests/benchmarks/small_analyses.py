"""The analysis of a thousand readings, before and after they are sealed, against the SQL aggregates of ADR 13.

Over HTTP, one client has one request in flight. The other side is the same API with these aggregates (`scanning`).
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection

import msgspec

from deploy.local.postgres import EmbeddedPostgres
from query_api.statistics import analysis
from query_api.statistics.blocks.sealing.announcing import announce
from query_api.statistics.blocks.sealing.sealing import seal_step
from query_api.statistics.figures import FIVE
from query_api.statistics.source import Source
from shared.postgres.connections import Connection, connect
from shared.readings.model import to_microseconds
from tests.benchmarks.http import serving
from tests.benchmarks.pairs import Finding, Ratio, warmed
from tests.benchmarks.scanning import scan
from tests.command import argv
from tests.ports import free_port

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


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure the milliseconds of an analysis."""
    with asyncio.Runner() as runner, _services(postgres) as (our, peer):
        connection = runner.run(connect(postgres.url, "bench"))
        try:
            runner.run(_fill(connection))

            def ours() -> float:
                return runner.run(_timed(lambda: _analyse(connection)))

            def theirs() -> float:
                return runner.run(_timed(lambda: _scan(connection)))

            yield _ratio("not sealed", *warmed(ours, theirs))
            yield _ratio("over HTTP, not sealed", *warmed(our, peer))
            runner.run(_seal(connection))
            yield _ratio("sealed", *warmed(ours, theirs))
            yield _ratio("over HTTP, sealed", *warmed(our, peer))
        finally:
            runner.run(connection.close())


def _ratio(state: str, ours: list[float], scan: list[float]) -> Ratio:
    return Ratio(f"analysis of 10^3 readings, {state}", "a scan by SQL aggregates", "ms", ours, scan, "<= 1.0")


@contextmanager
def _services(postgres: EmbeddedPostgres) -> Iterator[tuple[Callable[[], float], Callable[[], float]]]:
    """Run both services. Return what measures the milliseconds of an analysis."""
    scanning = [sys.executable, "-m", "tests.benchmarks.scanning", "serve"]
    with ExitStack() as stack:
        ports = []
        for command in (argv("serve"), scanning):
            port = free_port()
            given = {"database_url": postgres.url, "http_port": port, "log_level": "warning"}
            stack.enter_context(serving(port, command, "/health/ready", **given))
            ports.append(port)
        our, peer = (partial(_asked, port) for port in ports)
        yield our, peer


def _asked(port: int) -> float:
    """Return milliseconds."""
    taken = []
    with closing(HTTPConnection("127.0.0.1", port)) as client:
        for _ in range(TIMES):
            began = time.perf_counter()
            client.request("GET", f"/stats/analysis/{DEVICE}")
            answer = client.getresponse()
            body = answer.read()
            taken.append(1_000 * (time.perf_counter() - began))
            assert answer.status == HTTPStatus.OK, body
    assert msgspec.json.decode(body)["x"]["count"] == READINGS
    return statistics.median(taken)


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
    found = await scan(connection, DEVICE, None, None, FIVE, Source())
    assert found.x.count == READINGS
