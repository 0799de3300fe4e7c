"""A hundred million sealed readings of one device, or a billion: exact figures over HTTP (ADR 41).

The blocks are made directly: without rows, and without the blocks below them, which an analysis of all time does not
read. MADE_READINGS in the environment is the number of readings. A billion take about 11 GB and some minutes.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import numpy as np
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from query_api.statistics.blocks import exact, tables
from query_api.statistics.blocks.building import Axis, AxisSummary, Block, Columns, Key
from query_api.statistics.blocks.layout import AXES, BASE, MINI, STANDARD, TOP, Floats
from shared.postgres.connections import Connection, connect
from shared.postgres.migrate import migrate
from shared.postgres.roles import set_up
from shared.readings.extents import month_of, widen
from shared.readings.model import to_microseconds
from shared.settings import Settings
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, target
from tests.benchmarks.sealed import timed
from tests.ports import free_port
from tests.roles import let_roles_in
from tests.services import api

DATABASE = "bench_made"
READINGS = int(os.environ.get("MADE_READINGS", "100_000_000"))
DEVICE = 1
BEGINS = datetime(2025, 1, 1, tzinfo=UTC)
APART, LONG = timedelta(days=2, hours=12), timedelta(days=2)
"""From one block to the next, and from the first reading of a block to its last one."""
A_MONTH = 11
"""Blocks of one month."""
TARGET_MS = 100
_ALL = f"/stats/analysis/{DEVICE}"
_READS = (("five figures", _ALL), ("- with stddev, p95 and p99.9", f"{_ALL}?figures=stddev,p95,p99.9"))


class _Made(msgspec.Struct):
    """The sums of what was made, and its ranges."""

    totals: list[Decimal]
    least: list[float]
    greatest: list[float]

    def add(self, axes: Sequence[Axis]) -> None:
        for number, axis in enumerate(axes):
            self.totals[number] = exact.add(self.totals[number], axis.total)
            self.least[number] = min(self.least[number], float(axis.values[0]))
            self.greatest[number] = max(self.greatest[number], float(axis.values[-1]))


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure milliseconds over HTTP."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {DATABASE}".encode())
        url = postgres.url_of(DATABASE)
        made = asyncio.run(_make(url))
        let_roles_in(url)
        with asyncio.Runner() as runner:
            yield from runner.run(_analyses(url, made))
        server.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)".encode())


async def _make(url: str) -> _Made:
    made = _Made([exact.ZERO] * 3, [np.inf] * 3, [-np.inf] * 3)
    dice = np.random.default_rng(1)
    async with await connect(url, "bench") as connection:
        await migrate(connection)
        await set_up(connection)
        await connection.execute("INSERT INTO devices (id, key, name) VALUES (%s, 'made', 'bench')", (DEVICE,))
        last = BEGINS
        for number, (level, count) in enumerate(_sizes(READINGS)):
            first = _begin(number)
            last = first + LONG
            async with connection.transaction():
                await _make_block(connection, Key(DEVICE, level, to_microseconds(first)), count, dice, made)
        end = last + timedelta(seconds=1)
        await connection.execute("INSERT INTO sealed_devices VALUES (%s, %s, %s)", (DEVICE, end, end))
        await widen(connection, {DEVICE: (month_of(BEGINS), month_of(end))})
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CHECKPOINT")
    return made


def _sizes(readings: int) -> Iterator[tuple[int, int]]:
    """Yield level and count of each block: as large as possible, of the target of its level."""
    for level in range(TOP, MINI - 1, -1):
        size = STANDARD.targets[level]
        while readings >= size:
            yield level, size
            readings -= size
    if readings:
        yield MINI, readings


def _begin(number: int) -> datetime:
    """Return the time of the first reading of a block. Blocks do not reach into the next month."""
    months, place = divmod(number, A_MONTH)
    years, month = divmod(months, 12)
    return BEGINS.replace(year=BEGINS.year + years, month=1 + month) + place * APART


async def _make_block(connection: Connection, key: Key, count: int, dice: np.random.Generator, made: _Made) -> None:
    if key.level <= BASE:
        times = key.first + (LONG // timedelta(microseconds=1) * np.arange(count)) // max(1, count - 1)
        columns = Columns(times, *(dice.permutation(values) for values in _values(count, dice)))
        made.add([Axis.of(values) for values in columns.axes])
        await tables.insert_read(connection, key.device_id, [(key.level, columns)], STANDARD)
        return
    axes = await asyncio.to_thread(lambda: [Axis.of(values) for values in _values(count, dice)])
    made.add(axes)
    for number, axis in enumerate(axes):
        await tables.insert_axis(connection, key, number, axis, STANDARD)
    last = key.first + LONG // timedelta(microseconds=1)
    summaries = [AxisSummary.of(axis, STANDARD) for axis in axes]
    await tables.insert_blocks(connection, [Block(key, last, count, summaries, None)])


def _values(count: int, dice: np.random.Generator) -> Sequence[Floats]:
    """Return x, y and z: random doubles, and values with one and with two decimals."""
    x = np.clip(dice.normal(0, 100, count), -1000, 1000)
    return x, np.round(x + 100, 1), np.round(dice.uniform(-1000, 1000, count), 2)


async def _analyses(url: str, made: _Made) -> list[Ratio]:
    async with api(Settings(database_url=url, http_port=free_port())) as client:
        body = (await client.get(_ALL)).json()
        for number, axis in enumerate(AXES):
            assert body[axis]["count"] == READINGS
            assert (body[axis]["min"], body[axis]["max"]) == (made.least[number], made.greatest[number])
            assert body[axis]["sum"] == exact.rounded(made.totals[number])
        return [
            Ratio(
                f"{name} of {READINGS:,} readings", f"{TARGET_MS} ms", "ms",
                await timed(client, lambda path=path: path, PAIRS), target(TARGET_MS), "<= 1",
            )
            for name, path in _READS
        ]  # fmt: skip
