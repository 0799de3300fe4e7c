"""Statistics from blocks, late readings and rows against those of all readings, bit by bit, over hostile data."""

import math
import random
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from query_api.errors import UnknownDevices
from query_api.statistics.blocks import computing, exact
from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.layout import Layout
from query_api.statistics.blocks.reading import order_statistics, statistics
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import AxisStatistics, Limits, Needs, gather, read_statistics
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.settling import settle
from shared.readings.model import SECOND, Microseconds, to_microseconds
from tests import hostile
from tests.blocks import SMALL, assert_sealed, sealed, stored
from tests.conftest import Database

FRACTIONS = (0.0, 0.01, 0.25, 0.5, 0.95, 0.999999, 1.0)
NEEDS = Needs(FRACTIONS, squares=True, deviations=True, ends=True)
STEPS = [0, 1, 1000, SECOND, 61 * SECOND, 3600 * SECOND]


def layout_of(chance: random.Random) -> Layout:
    base, factor = chance.choice([4, 8, 16, 64]), chance.choice([2, 3, 8])
    return Layout(
        targets=(max(2, base // 4), base, base * factor, base * factor**2),
        marks=chance.choice([1, 4, 16, 256]),
        least_stride=chance.choice([1, 2, 32]),
        guide=chance.choice([2, 4, 128]),
        time_stride=chance.choice([2, 8, 256]),
    )


def readings_of(chance: random.Random, rng: np.random.Generator) -> Columns:
    """Readings that differ, in any order, of hostile values; often many at one moment."""
    count = chance.choice([1, 2, 3, 10, 100, 1000])
    start = to_microseconds(datetime(2025, chance.choice([1, 2]), chance.choice([1, 20, 28]), tzinfo=UTC))
    step = chance.choice(STEPS)
    times = start + step * np.arange(count)
    if chance.random() < 0.4:
        times = start + max(step, 1) * rng.integers(0, max(1, count // 5), count)
    axes = [hostile.values(chance.choice(hostile.KINDS), count, rng) for _ in range(3)]
    rows = np.unique(np.stack((times.astype(float), *axes)), axis=1)
    rows = rows[:, rng.permutation(rows.shape[1])]
    return Columns(rows[0].astype(np.int64), *rows[1:])


async def seal_some(database: Database, device: int, columns: Columns, chance: random.Random, layout: Layout) -> None:
    """Store the readings in two parts; seal, merge and settle some of them meanwhile."""
    part = int(len(columns) * chance.choice([0, 0.5, 0.9, 1]))
    await stored(database, device, columns[:part])
    for _ in range(chance.choice([0, 1, 2, 3])):
        until = int(chance.choice(columns.times.tolist())) + chance.choice([0, 1, 1000 * SECOND])
        await sealed(database, device, until, layout, chance.choice([5, 100, 10**6]))
        if chance.random() < 0.7:
            await merge(database, device, layout)
    await stored(database, device, columns[part:])
    for act in (settle, merge):
        if chance.random() < 0.5:
            await act(database, device, layout)


def period(
    chance: random.Random, columns: Sequence[Columns], edges: Sequence[Microseconds]
) -> list[Microseconds | None]:
    """Ends at readings or at ends of blocks, or a microsecond beside them; or open."""
    times = [int(time) for one in columns for time in one.times]
    ends = [chance.choice([None, chance.choice(times), chance.choice(edges or times)]) for _ in range(2)]
    start, end = (None if at is None else at + chance.choice([-1, 0, 1]) for at in ends)
    return [end, start] if start is not None and end is not None and start > end else [start, end]


@pytest.mark.parametrize("seed", range(25))
async def test_statistics_are_those_of_all_readings(database: Database, seed: int) -> None:
    chance, rng = random.Random(seed), np.random.default_rng(seed)
    layout = layout_of(chance)
    columns = [readings_of(chance, rng) for _ in range(chance.choice([1, 1, 2, 4]))]
    for device, one in enumerate(columns, start=1):
        await seal_some(database, device, one, chance, layout)
        await assert_sealed(database, device, layout)
    edges = await edges_of(database)
    for _ in range(12):
        start, end = period(chance, columns, edges)
        is_each = chance.random() < 0.5
        limits = Limits(
            whole=chance.choice([0, 0, 10**6]),
            few=chance.choice([0, 40_000]),
            piece=chance.choice([3, 50, 10**6]),
            kept=chance.choice([0, 100]),
            chunk_bytes=chance.choice([1, 2_000, 10**6]),
        )
        await assert_same(database, columns, start, end, layout, limits, is_each=is_each)


async def edges_of(database: Database) -> list[Microseconds]:
    rows = await (await database.execute("SELECT first FROM blocks UNION SELECT last FROM blocks")).fetchall()
    return [to_microseconds(row[0]) for row in rows]


async def assert_same(
    database: Database,
    columns: Sequence[Columns],
    start: Microseconds | None,
    end: Microseconds | None,
    layout: Layout,
    limits: Limits,
    *,
    is_each: bool,
) -> None:
    devices = list(range(1, len(columns) + 1))
    items = Items.each(devices, start, end) if is_each else Items.together(devices, start, end)
    async with snapshot(database):
        found = await read_statistics(database, items, NEEDS, layout, limits)
    groups = [[one] for one in columns] if is_each else [columns]
    assert len(found.groups) == len(groups)
    total = 0
    for own, group in zip(found.groups, groups, strict=True):
        within = [(one.times >= (start or -(2**62))) & (one.times <= (end or 2**62)) for one in group]
        count = sum(int(some.sum()) for some in within)
        total += count
        assert (own is None) == (count == 0)
        parts = [
            (one.times[some], *(values[some] for values in one.axes)) for one, some in zip(group, within, strict=True)
        ]
        readings = sorted(zip(*(np.concatenate(column).tolist() for column in zip(*parts, strict=True)), strict=True))
        for number, axis in enumerate(own or (), start=1):
            assert_axis(axis, np.sort(np.array([reading[number] for reading in readings]) + 0.0))
            assert axis.ends is not None
            for found_end, reading in zip(axis.ends, (readings[0], readings[-1]), strict=True):
                assert (found_end.time, found_end.value) == (reading[0], reading[number])
                assert not is_negative_zero(found_end.value)
    assert found.from_blocks + found.from_rows == total


def assert_axis(found: AxisStatistics, values: np.ndarray) -> None:
    """`values`: sorted."""
    count = len(values)
    assert (found.count, found.least, found.greatest) == (count, values[0], values[-1])
    assert exact.rounded(found.total) == math.fsum(values)
    assert found.squares is not None
    assert Fraction(found.squares) == sum(Fraction(value) ** 2 for value in values.tolist())
    assert list(found.pairs) == list(FRACTIONS)
    for fraction, pair in found.pairs.items():
        place = fraction * (count - 1)
        assert pair == (values[math.floor(place)], values[math.ceil(place)])
        assert not any(map(is_negative_zero, pair))
    middles = (count - 1) // 2, count // 2
    median = (values[middles[0]] + values[middles[1]]) / 2
    assert found.deviations == tuple(np.sort(np.abs(values - median))[list(middles)])


def is_negative_zero(value: float) -> bool:
    return value == 0 and math.copysign(1, value) < 0


async def test_a_device_that_is_not_there(database: Database) -> None:
    with pytest.raises(UnknownDevices) as raised:
        await read_statistics(database, Items.each([1, 2], None, None), Needs())
    assert raised.value.devices == (1, 2)


async def test_unsealed_readings_of_many_devices_are_not_all_kept(database: Database) -> None:
    start, rng = to_microseconds(datetime(2025, 1, 1, tzinfo=UTC)), np.random.default_rng(1)
    for device in range(1, 21):
        await stored(database, device, Columns(start + SECOND * np.arange(100), *rng.normal(size=(3, 100))))
    limits = Limits(piece=50, kept=100)
    async with snapshot(database):
        items = Items.each(list(range(1, 21)), None, None)
        _, gathered = await gather(database, items, with_squares=False, layout=SMALL, limits=limits)
    assert gathered.count.tolist() == [100] * 20
    assert gathered.values <= 3 * (2 * limits.kept + limits.piece)


@pytest.mark.parametrize("is_each", [True, False])
async def test_readings_at_the_ends_of_many_periods_are_not_all_kept(database: Database, is_each: bool) -> None:
    """A period begins and ends amid the blocks of each device."""
    start, rng = to_microseconds(datetime(2025, 1, 1, tzinfo=UTC)), np.random.default_rng(1)
    columns = [Columns(start + SECOND * np.arange(20), *rng.normal(size=(3, 20))) for _ in range(20)]
    for device, own in enumerate(columns, start=1):
        await stored(database, device, own)
        await sealed(database, device, own.last + 1)
    first, last, devices = start + 2 * SECOND, start + 17 * SECOND, list(range(1, 21))
    items = Items.each(devices, first, last) if is_each else Items.together(devices, first, last)
    limits = Limits(whole=0, kept=40, chunk_bytes=1_000)
    async with snapshot(database):
        _, gathered = await gather(database, items, with_squares=False, layout=SMALL, limits=limits)
    assert gathered.count.sum() == gathered.from_blocks == 20 * 16
    assert 40 <= gathered.kept < 80
    await assert_same(database, columns, first, last, SMALL, limits, is_each=is_each)


async def test_large_computations_leave_the_event_loop(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sealed readings, and of unsealed ones that are kept and that are read in pieces."""
    count, threads = 2000, []
    start = to_microseconds(datetime(2025, 1, 1, tzinfo=UTC))
    await stored(
        database, 1, Columns(start + SECOND * np.arange(count), *np.random.default_rng(1).normal(size=(3, count)))
    )
    await sealed(database, 1, start + 500 * SECOND)
    monkeypatch.setattr(computing, "LARGE", 100)
    for module, name in ((exact, "totals"), (order_statistics, "narrow_all"), (statistics, "_group")):
        monkeypatch.setattr(module, name, _noting_threads(getattr(module, name), threads))
    async with snapshot(database):
        limits = Limits(whole=0, few=0, piece=300, kept=600)
        await read_statistics(database, Items.each([1], None, None), NEEDS, SMALL, limits)
    assert len(threads) > 5
    assert threading.get_ident() not in threads


def _noting_threads(function: Callable[..., Any], threads: list[int]) -> Callable[..., Any]:
    def noting(*arguments: Any, **options: Any) -> Any:
        threads.append(threading.get_ident())
        return function(*arguments, **options)

    return noting
