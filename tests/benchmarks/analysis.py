"""A million readings of one device: exact figures against plain SQL, and the API against its own SQL."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from query_api.statistics import analysis
from shared.postgres.connections import connect
from shared.settings import Settings
from tests.benchmarks.pairs import Ratio, warmed
from tests.ports import free_port
from tests.services import api

READINGS = 1_000_000
DEVICE = 1_000_000
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %s, date_trunc('month', now()) + interval '10 ms' * n, now(),
           2000 * random() - 1000, 2000 * random() - 1000, random()
    FROM generate_series(1, %s) AS n
"""
_ADD_DEVICE = "INSERT INTO devices (id, key, name) VALUES (%s, 'bench', 'bench')"
_PLAIN = """
    SELECT count(*),
           min(x), max(x), sum(x), percentile_cont(0.5) WITHIN GROUP (ORDER BY x),
           min(y), max(y), sum(y), percentile_cont(0.5) WITHIN GROUP (ORDER BY y),
           min(z), max(z), sum(z), percentile_cont(0.5) WITHIN GROUP (ORDER BY z)
    FROM readings WHERE device_id = %s
"""


def measure(postgres: EmbeddedPostgres) -> Iterator[Ratio]:
    """Measure the seconds of an analysis."""
    with psycopg.connect(postgres.url, autocommit=True) as database:
        database.execute(_ADD_DEVICE, (DEVICE,))
        database.execute(_FILL, (DEVICE, READINGS))
        database.execute("VACUUM ANALYZE readings")

        def plain() -> float:
            began = time.monotonic()
            database.execute(_PLAIN, (DEVICE,)).fetchone()
            return time.monotonic() - began

        with asyncio.Runner() as runner:
            exact = runner.run(_connected(postgres.url))
            try:
                ours, peer = warmed(lambda: runner.run(_exactly(exact)), plain)
                yield Ratio("analysis of 10^6 readings, exact", "plain SQL aggregates", "s", ours, peer)
                over_http, direct = runner.run(_over_http(postgres.url, exact))
                yield Ratio(
                    "analysis of 10^6 readings, over HTTP", "its SQL statement alone", "s", over_http, direct, "<= 1.1"
                )
            finally:
                runner.run(exact.close())


async def _connected(url: str) -> psycopg.AsyncConnection:
    return await connect(url, "bench")


async def _exactly(connection: psycopg.AsyncConnection) -> float:
    began = time.monotonic()
    found = await analysis.analyse(connection, DEVICE, None, None)
    assert found.x.count == READINGS
    return time.monotonic() - began


async def _over_http(url: str, connection: psycopg.AsyncConnection) -> tuple[list[float], list[float]]:
    ours, peer = [], []
    async with api(Settings(database_url=url, http_port=free_port())) as client:
        for _ in range(6):
            ours.append(await _get(client))
            peer.append(await _exactly(connection))
    return ours[1:], peer[1:]


async def _get(client: httpx.AsyncClient) -> float:
    began = time.monotonic()
    answer = await client.get(f"/stats/analysis/{DEVICE}")
    assert answer.json()["x"]["count"] == READINGS
    return time.monotonic() - began
