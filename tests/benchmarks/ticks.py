"""Schedules that are due at the same time: the rate at which one worker queues their analyses."""

import asyncio
import time
from collections.abc import Iterator

from deploy.local.postgres import EmbeddedPostgres
from query_api.worker.ticks import run_due_ticks
from shared.postgres.connections import Connection, connect
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, target

SCHEDULES = 10_000
RATE = 2_000.0
_ADD = """
    WITH device AS (
        INSERT INTO devices (key, name) SELECT 'ticking-' || n, n FROM generate_series(1, %s) AS n RETURNING id
    )
    INSERT INTO analysis_schedules (device_id, cron, timezone, period, align, figures, next_tick)
    SELECT id, '* * * * *', 'UTC', 'PT1M', true, '{}', now() FROM device
"""
_DUE_AGAIN = """
    DELETE FROM analysis_ticks;
    DELETE FROM analysis_requests;
    UPDATE analysis_schedules SET next_tick = now() - interval '1 minute'
"""


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure ticks per second, against a target."""
    yield Ratio(
        f"{SCHEDULES:,} schedules due at once",
        "target",
        "ticks/s",
        asyncio.run(_rates(postgres.url)),
        target(RATE),
        ">= 1",
    )


async def _rates(url: str) -> list[float]:
    async with await connect(url, "bench") as connection:
        await connection.execute(_ADD, (SCHEDULES,))
        return [await _rate(connection) for _ in range(PAIRS)]


async def _rate(connection: Connection) -> float:
    await connection.execute(_DUE_AGAIN)
    began = time.perf_counter()
    count = await run_due_ticks(connection)
    return count / (time.perf_counter() - began)
