"""Series from blocks, late readings and rows against the downsampling of all readings, over hostile data."""

import itertools
import random
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest

from query_api.calendar.period import Period
from query_api.readings.listing import bounds
from query_api.readings.plots.curve import Curve, draw
from query_api.readings.plots.downsampling import Downsampler, span_of
from query_api.readings.plots.gaps import FACTOR, NEIGHBOURS, SAMPLES
from query_api.readings.plots.series import Line, Series, downsample
from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.layout import Layout
from query_api.statistics.blocks.reading.curves.outline import Limits
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.retiring import retire_device
from query_api.statistics.blocks.sealing.settling import settle
from shared.postgres.connections import connect
from shared.readings.model import SECOND, Microseconds, to_datetime, to_microseconds
from tests.blocks import SMALL, assert_sealed, sealed, stored
from tests.conftest import Database
from tests.integration.test_statistics_of_blocks import edges_of, layout_of, period, readings_of, seal_some

POINTS = [4, 5, 7, 10, 30, 100, 1000]


def expected(columns: Columns, points: int) -> tuple[int, list[tuple[list[int], bytes]]]:
    """The count, and of each axis the times and the bytes of the values, of all readings in one block."""
    columns = Columns.ordered(columns.times, *columns.axes)
    lines = []
    for values in columns.axes:
        line = Downsampler(columns.first, columns.last, points)
        line.add(columns.times, values)
        times, chosen = line.result()
        lines.append((times.tolist(), chosen.tobytes()))
    return len(columns), lines


def of(series: Series | None) -> tuple[int, list[tuple[list[int], bytes]]]:
    def line(one: Line) -> tuple[list[int], bytes]:
        times = [to_microseconds(datetime.fromisoformat(at)) for at in one.timestamp]
        return times, np.array(one.value).tobytes()

    assert series is not None
    return series.count, [line(series.x), line(series.y), line(series.z)]


async def read(
    database: Database,
    start: Microseconds | None,
    end: Microseconds | None,
    points: int,
    layout: Layout = SMALL,
    limits: Limits = Limits(),  # noqa: B008  # it is frozen
) -> Series | None:
    """Read the series of device 1."""
    asked = Period(*(None if at is None else to_datetime(at) for at in (start, end)))
    async with snapshot(database):
        within = await bounds(database, 1, asked)
        if within is None:
            return None
        return await downsample(database, 1, asked, within, points, layout, limits)


def part_of(columns: Columns, start: Microseconds | None, end: Microseconds | None) -> Columns:
    within = (columns.times >= (start or -(2**62))) & (columns.times <= (end or 2**62))
    return Columns(columns.times[within], *(values[within] for values in columns.axes))


@pytest.mark.parametrize("seed", range(40))
async def test_series_are_those_of_all_readings(database: Database, seed: int) -> None:
    chance, rng = random.Random(seed), np.random.default_rng(seed)
    layout = layout_of(chance)
    columns = readings_of(chance, rng)
    await seal_some(database, 1, columns, chance, layout)
    await assert_sealed(database, 1, layout)
    edges = await edges_of(database)
    for _ in range(15):
        start, end = period(chance, [columns], edges)
        points = chance.choice(POINTS)
        limits = Limits(blocks=chance.choice([1, 2, 7, 1024]), readings=chance.choice([1, 20, 300, 1 << 17]))
        found = await read(database, start, end, points, layout, limits)
        part = part_of(columns, start, end)
        assert (found is None) == (len(part) == 0)
        if found is not None:
            assert of(found) == expected(part, points), (start, end, points, limits)


def expected_gaps(columns: Columns, points: int) -> tuple[int, list[tuple[int, int]]]:
    """The distance that gaps exceed, and the gaps, of all readings."""
    times = np.sort(columns.times)
    first, last = int(times[0]), int(times[-1])
    moments = [first + round((last - first) * n / SAMPLES) for n in range(SAMPLES)]
    near = [times[times >= at][: NEIGHBOURS + 1] for at in moments]
    distances = np.sort(np.concatenate([np.diff(one) for one in near]))
    distances = distances[distances > 0]
    usual = int(distances[(len(distances) - 1) // 2]) if len(distances) else 0
    above = max(FACTOR * usual, span_of(first, last, points))
    return above, [(int(a), int(b)) for a, b in itertools.pairwise(times) if b - a > above]


async def gaps_of(
    database: Database,
    start: Microseconds | None,
    end: Microseconds | None,
    points: int,
    layout: Layout,
    limits: Limits,
) -> Curve | None:
    asked = Period(*(None if at is None else to_datetime(at) for at in (start, end)))
    async with snapshot(database):
        within = await bounds(database, 1, asked)
        return within and await draw(database, 1, within, points, gaps=True, layout=layout, limits=limits)


def with_gaps(columns: Columns, chance: random.Random) -> Columns:
    """The readings, those after some of them later by up to a thousand distances."""
    times = columns.times.copy()
    for _ in range(chance.randint(0, 8)):
        place = chance.randrange(len(times))
        times[place:] += chance.randint(1, 1000) * SECOND
    return Columns.ordered(times, *columns.axes)


@pytest.mark.parametrize("seed", range(12))
async def test_gaps_are_those_of_all_readings(database: Database, seed: int) -> None:
    chance, rng = random.Random(seed), np.random.default_rng(seed)
    layout = layout_of(chance)
    columns = with_gaps(readings_of(chance, rng), chance)
    await seal_some(database, 1, columns, chance, layout)
    edges = await edges_of(database)
    for _ in range(15):
        start, end = period(chance, [columns], edges)
        points = chance.choice(POINTS)
        limits = Limits(blocks=chance.choice([1, 2, 7, 1024]), readings=chance.choice([1, 20, 300, 1 << 17]))
        curve = await gaps_of(database, start, end, points, layout, limits)
        part = part_of(columns, start, end)
        if curve is not None:
            found = curve.gaps_above, [(gap.start, gap.end) for gap in curve.gaps]
            assert found == expected_gaps(part, points), (start, end, points, limits)


START, FEBRUARY = (to_microseconds(datetime(2025, *day, tzinfo=UTC)) for day in ((1, 20), (2, 1)))
ALWAYS = Period(None, None)


async def many(database: Database, count: int = 3000) -> Columns:
    """Store readings of two months, and seal most of them."""
    rng = np.random.default_rng(7)
    times = START + 600 * SECOND * np.arange(count)
    columns = Columns(times, np.cumsum(rng.normal(size=count)), *rng.normal(size=(2, count)))
    await stored(database, 1, columns)
    await sealed(database, 1, int(times[-50]))
    await merge(database, 1, SMALL)
    return columns


async def test_late_readings_until_they_are_settled(database: Database) -> None:
    columns = await many(database)
    assert of(await read(database, None, None, 50)) == expected(columns, 50)
    rng = np.random.default_rng(8)
    late = rng.choice(columns.times[:2000], 40, replace=False)
    late[::2] += 1  # the others are of equal times
    added = Columns(late, *rng.normal(size=(3, 40)))
    await stored(database, 1, added)
    every = Columns.joined([columns, added])
    for _ in range(3):
        assert of(await read(database, None, None, 50)) == expected(every, 50)
        assert await settle(database, 1, SMALL, 10)


FORGET_JANUARY = b"""
    WITH of_columns AS (DELETE FROM block_columns WHERE first < '2025-02-01Z'),
         of_values AS (DELETE FROM block_values WHERE first < '2025-02-01Z')
    DELETE FROM blocks WHERE first < '2025-02-01Z'
"""


async def retire_all(other: Database) -> None:
    while await retire_device(other, 1, 10**6):
        pass


async def test_a_snapshot_keeps_a_month_and_a_device_that_are_deleted(database: Database, database_url: str) -> None:
    columns = await many(database)
    async with await connect(database_url, "test") as other:
        for retire in (partial(other.execute, FORGET_JANUARY), partial(retire_all, other)):
            async with snapshot(database):
                within = await bounds(database, 1, ALWAYS)
                assert within is not None
                await retire()
                found = await downsample(database, 1, ALWAYS, within, 50, SMALL)
            assert of(found) == expected(columns, 50)
            columns = part_of(columns, FEBRUARY, None)
            await other.execute("DELETE FROM readings WHERE recorded_at < '2025-02-01Z'")
    await database.execute("DELETE FROM readings")
    assert await read(database, None, None, 50) is None
