"""Ten million sealed readings of one device over a year: exact figures over HTTP, and what sealing costs (ADR 41)."""

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import numpy as np
import pandas as pd
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from shared.postgres.connections import connect
from shared.postgres.migrate import migrate
from shared.postgres.roles import set_up
from shared.readings import binary_copy
from shared.readings.extents import month_of, widen
from shared.readings.model import to_datetime, to_microseconds
from shared.readings.rows import FIELDS
from shared.settings import Settings
from tests.benchmarks.column_stores import ColumnStores, column_stores
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, target
from tests.ports import free_port
from tests.roles import let_roles_in
from tests.services import api

DATABASE = "bench_sealed"
READINGS = 10_000_000
DEVICE, DECIMALS = 1, 2
"""The second device has a tenth of the readings, with one to three decimals as sensors have them."""
BEGINS = datetime(2025, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
STEP = YEAR / READINGS
UNSEALED = 500
"""The newest readings, which no block holds."""
AT_ONCE = 500_000
PERIODS = 40
"""Random periods of one run."""
_MONTHS = "SELECT ensure_readings_partition(month) FROM generate_series(%s, %s, interval '1 month') AS month"
_COPY = "COPY readings (device_id, recorded_at, received_at, x, y, z) FROM STDIN (FORMAT BINARY)"
_ROW = binary_copy.row_type({name: f">{kind}" for name, kind in FIELDS.items()})
_SIZE = """
    SELECT sum(pg_total_relation_size(name))::float8
    FROM unnest(ARRAY['blocks', 'block_values', 'block_columns', 'late_readings', 'sealed_devices']) AS name
"""


class Sealed(msgspec.Struct, frozen=True):
    """What sealing took: `cpu` of the sealing process in seconds, its peak `memory` in MB, and `size` in bytes."""

    readings: int
    cpu: float
    memory: float
    size: float = 0.0


def decimals(data: pd.DataFrame) -> pd.DataFrame:
    """Return a tenth of the readings, rounded, a second apart."""
    tenth = data[: READINGS // 10].round({"x": 3, "y": 1})
    tenth["t"] = to_microseconds(BEGINS) + np.arange(len(tenth)) * 1_000_000
    return tenth


def readings() -> pd.DataFrame:
    """Return the first device's readings: a walk, a sine, and values with two decimals."""
    rng, n = np.random.default_rng(1), np.arange(READINGS)
    times = to_microseconds(BEGINS) + n * (STEP // timedelta(microseconds=1))
    walk = np.clip(np.cumsum(rng.normal(0, 0.3, READINGS)), -1000, 1000)
    return pd.DataFrame(
        {"t": times, "x": walk, "y": 500 * np.sin(n / 97.0), "z": np.round(rng.normal(20, 1, READINGS), 2)}
    )


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure milliseconds over HTTP, the sealer's CPU and memory, and the size of the blocks."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {DATABASE}".encode())
        url, data = postgres.url_of(DATABASE), readings()
        asyncio.run(store(url, {DEVICE: data, DECIMALS: decimals(data)}))
        let_roles_in(url)
        yield from _sealing(url, data)
        with column_stores(data) as peers, asyncio.Runner() as runner:
            del data
            yield from runner.run(_analyses(url, peers))
        server.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)".encode())


# The readings and their blocks.


async def store(url: str, devices: Mapping[int, pd.DataFrame]) -> None:
    """Migrate the database, and store the readings of each device."""
    async with await connect(url, "bench") as connection:
        await migrate(connection)
        await set_up(connection)
        await connection.execute(_MONTHS, (BEGINS, BEGINS + YEAR))
        for device, own in devices.items():
            await connection.execute(
                "INSERT INTO devices (id, key, name) VALUES (%s, %s, 'bench')", (device, str(device))
            )
            await connection.execute("INSERT INTO sealed_devices (device_id) VALUES (%s)", (device,))
            await widen(connection, {device: (month_of(BEGINS), month_of(BEGINS + YEAR))})
            for begin in range(0, len(own), AT_ONCE):
                async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
                    await copy.write(_packed(device, own[begin : begin + AT_ONCE]))
        await connection.execute("VACUUM (ANALYZE) readings")


def _packed(device: int, data: pd.DataFrame) -> bytes:
    rows = np.empty(len(data), np.dtype(list(FIELDS.items())))
    rows["device_id"] = device
    rows["recorded_at"] = rows["received_at"] = data["t"] - binary_copy.POSTGRES_EPOCH
    for axis in "xyz":
        rows[axis] = data[axis]
    return binary_copy.pack(_ROW, rows)


def _sealing(url: str, data: pd.DataFrame) -> Iterator[Ratio]:
    """Seal each device in a process of its own, whose memory is that of sealing."""
    first, second = (seal(url, device, int(own["t"].iloc[-UNSEALED])) for device, own in (
        (DEVICE, data), (DECIMALS, decimals(data)),
    ))  # fmt: skip
    seconds = first.cpu / first.readings * 1_000_000
    yield Ratio("the worker's CPU for a million readings sealed", "2.5 s", "s", [seconds] * PAIRS, target(2.5), "<= 1")
    yield Ratio("the sealing process's peak memory", "150 MB", "MB", [first.memory] * PAIRS, target(150), "<= 1")
    for name, found, most in (("", first, 105), (" with decimals", second, 30)):
        size = [found.size / found.readings] * PAIRS
        yield Ratio(f"size of the blocks of a reading{name}", f"{most} bytes", "bytes", size, target(most), "<= 1")


def seal(url: str, device: int, until: int) -> Sealed:
    before = _size(url)
    command = [sys.executable, "-m", "tests.benchmarks.sealer", url, str(device), str(until)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return msgspec.structs.replace(msgspec.json.decode(printed, type=Sealed), size=_size(url) - before)


def _size(url: str) -> float:
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("VACUUM (ANALYZE)")
        (size,) = database.execute(_SIZE).fetchone() or (0.0,)
    return float(size)


# Reads.

_Read = Callable[[httpx.AsyncClient], Awaitable[object]]


async def _analyses(url: str, peers: ColumnStores) -> list[Finding]:
    async with api(Settings(database_url=url, http_port=free_port())) as client:
        found: list[Finding] = []
        for name, peer in (("DuckDB", peers.duckdb), ("ClickHouse (chdb)", peers.clickhouse)):
            ours, theirs = await _beside(client, peer)
            found.append(Ratio("analysis of 10^7 readings over HTTP", name, "ms", ours, theirs, "<= 0.033"))
        for title, path, limit in _READS:
            ours = await timed(client, lambda path=path: path)
            found.append(Ratio(title, f"{limit} ms", "ms", ours, target(limit), "<= 1"))
        return [*found, *await _random_periods(client)]


_ALL = f"/stats/analysis/{DEVICE}"
_DAYS = f"/stats/{DEVICE}/buckets?interval=P1D&limit=1000"
_READS: list[tuple[str, str, float]] = [
    ("analysis of 10^7 readings over HTTP", _ALL, 15),
    ("- with stddev, p95 and p99.9", f"{_ALL}?figures=stddev,p95,p99.9", 15),
    ("series of 10^7 readings, 1,000 points", f"/stats/{DEVICE}/series?points=1000", 100),
    ("365 days of 10^7 readings, UTC", _DAYS, 300),
    ("365 days of 10^7 readings, Europe/Berlin", f"{_DAYS}&timezone=Europe/Berlin", 400),
    ("median absolute deviation of 10^7 readings", f"{_ALL}?figures=mad", 30),
    ("histogram of 10^7 readings, 100 bins", f"/stats/{DEVICE}/histogram?bins=100", 30),
]


async def _beside(client: httpx.AsyncClient, peer: Callable[[], tuple[float, ...]]) -> tuple[list[float], list[float]]:
    """Measure the analysis and the peer's in turn. Counts, ranges and medians must be equal."""
    body = await _get(client, _ALL)
    expected = peer()
    assert [body[axis]["count"] for axis in "xyz"] == [expected[0]] * 3
    for place, axis in enumerate("xyz"):
        least, greatest, total, median = expected[1 + 4 * place : 5 + 4 * place]
        assert (body[axis]["min"], body[axis]["max"], body[axis]["median"]) == (least, greatest, median)
        assert abs(body[axis]["sum"] - total) <= 1e-6 * max(1.0, abs(total))
    ours, theirs = [], []
    for _ in range(PAIRS):
        ours += await timed(client, lambda: _ALL, 1)
        began = time.perf_counter()
        peer()
        theirs.append((time.perf_counter() - began) * 1000)
    return ours, theirs


async def timed(client: httpx.AsyncClient, path: Callable[[], str], times: int = PAIRS) -> list[float]:
    """Measure milliseconds of requests, after one that is not measured."""
    await _get(client, path())
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await _get(client, path())
        took.append((time.perf_counter() - began) * 1000)
    return took


async def _get(client: httpx.AsyncClient, path: str) -> dict[str, dict[str, float]]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


async def _random_periods(client: httpx.AsyncClient) -> list[Ratio]:
    chance = random.Random(1)

    def path() -> str:
        start, end = sorted(chance.randrange(READINGS) for _ in range(2))
        moments = (to_datetime(to_microseconds(BEGINS + n * STEP)).isoformat() for n in (start, end))
        return f"{_ALL}?" + "&".join(
            f"{name}={at.replace('+00:00', 'Z')}" for name, at in zip(("start", "end"), moments, strict=True)
        )

    runs = [sorted(await timed(client, path, PERIODS)) for _ in range(PAIRS)]
    return [
        Ratio(
            "random periods of 10^7 readings, p50",
            "15 ms",
            "ms",
            [statistics.median(run) for run in runs],
            target(15),
            "<= 1",
        ),
        Ratio(
            "random periods of 10^7 readings, p90",
            "30 ms",
            "ms",
            [run[PERIODS * 9 // 10] for run in runs],
            target(30),
            "<= 1",
        ),
    ]
