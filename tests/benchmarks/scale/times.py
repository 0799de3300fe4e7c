"""Batches of readings of all devices with timestamps over 24 months, against batches with timestamps of now."""

import asyncio
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from shared.postgres.connections import Connection, connect
from shared.readings import store as readings
from shared.readings.announcements import Announcements
from shared.readings.extents import month_of, start_of
from shared.readings.model import to_microseconds
from shared.readings.partitions import Partitions
from shared.readings.rows import Rows
from shared.readings.store import Stored
from tests.benchmarks.pairs import Finding, Ratio, warmed
from tests.benchmarks.scale.data import DEVICES, FIRST, MONTHS

BATCH = 20_000
BATCHES = 10
WANTED = ">= 0.9"


def measure(url: str) -> Iterator[Finding]:
    """Measure readings stored a second, by `store_new`, each batch in its own transaction."""
    with asyncio.Runner() as runner:
        connection = runner.run(connect(url, "bench"))
        partitions, dice = Partitions(), np.random.default_rng(1)
        first, now = to_microseconds(FIRST), to_microseconds(datetime.now(UTC))
        last = to_microseconds(start_of(month_of(FIRST) + MONTHS))

        def over_months() -> float:
            return runner.run(
                _rate(connection, partitions, [dice.integers(first, last, BATCH) for _ in range(BATCHES)])
            )

        def of_now() -> float:
            return runner.run(
                _rate(connection, partitions, [now + dice.integers(0, 10**9, BATCH) for _ in range(BATCHES)])
            )

        try:
            yield Ratio(
                f"readings of {DEVICES:,} devices over {MONTHS} months, to rows", "of now", "readings/s",
                *warmed(over_months, of_now), WANTED,
            )  # fmt: skip
        finally:
            runner.run(connection.close())


async def _rate(connection: Connection, partitions: Partitions, batches: list[np.ndarray]) -> float:
    await connection.execute("CHECKPOINT")
    given = [_rows(moments) for moments in batches]
    for batch in given:
        await partitions.ensure(connection, batch)
    began = time.monotonic()
    for batch in given:
        async with connection.transaction():
            assert await readings.store_new(connection, batch, Announcements()) == Stored(BATCH, 0)
    return BATCH * BATCHES / (time.monotonic() - began)


def _rows(moments: np.ndarray) -> Rows:
    rows = Rows()
    for moment in moments.tolist():
        device = random.randrange(1, DEVICES + 1)
        rows.extend_columns(device, np.array([moment]), range(moment, moment + 1), [np.random.random(1)] * 3)
    return rows
