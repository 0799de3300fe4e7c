"""The figures of any readings, against Python's own and numpy's (Hypothesis)."""

import itertools
import math
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from query_api.errors import UnknownDevices
from query_api.statistics.analysis import Analysis, analyse, analyse_each
from query_api.statistics.figures import FIVE, ON_REQUEST, FigureNames, Figures, Measurement
from shared.readings.announcements import Announcements
from shared.readings.model import Reading, to_datetime
from shared.readings.partitions import Partitions
from shared.readings.rules import AXIS_LIMIT
from shared.readings.store import prepare, store

NOON = 1_769_860_800_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
_devices = itertools.count(1)
_ADD_DEVICE = "INSERT INTO devices (id, key, name) VALUES (%s, %s, 'n')"

axis = st.one_of(
    st.floats(-AXIS_LIMIT, AXIS_LIMIT),
    st.floats(-AXIS_LIMIT, AXIS_LIMIT).map(lambda value: round(value, 2)),
    st.sampled_from([AXIS_LIMIT, -AXIS_LIMIT, 0.0, -0.0, 5e-324, -5e-324, 2**-11, 999.9999999999999]),
)
rows = st.lists(st.tuples(axis, axis, axis), max_size=60)
percentiles = st.one_of(
    st.sampled_from(["p0", "p100", "p50", "p0.000001", "p99.9"]),
    st.decimals(0, 100, places=3).map(lambda rank: f"p{rank}"),
)
names = st.lists(st.one_of(st.sampled_from(ON_REQUEST), percentiles), max_size=12)
Row = tuple[float, float, float]
everything = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def stored(database: psycopg.AsyncConnection[Any], rows: Sequence[Row]) -> int:
    """Return a new device with these readings."""
    device = next(_devices)
    readings = [Reading(device, NOON + n, NOON, *row) for n, row in enumerate(rows)]
    await database.execute(_ADD_DEVICE, (device, str(device)))
    await prepare(database)
    await Partitions().ensure(database, readings)
    async with database.transaction():
        await store(database, readings, Announcements())
    return device


def axes(rows: Sequence[Row]) -> list[tuple[float, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * 3


@given(rows=rows)
@example(rows=[(0.1, 1e-300, 1000.0)] * 7 + [(-0.1, 3e-300, -1000.0)] * 7)
@everything
async def test_the_figures_are_exact(database: psycopg.AsyncConnection[Any], rows: list[Row]) -> None:
    device = await stored(database, rows)

    found = await analyse(database, device, START, None)

    for figures, values in zip((found.x, found.y, found.z), axes(rows), strict=True):
        assert_exact(figures, values)
        assert (figures.mean, figures.stddev, figures.percentiles) == (UNSET, UNSET, UNSET)


def assert_exact(figures: Figures, values: Sequence[float]) -> None:
    assert figures.count == len(values)
    assert figures.min == min(values, default=None)
    assert figures.max == max(values, default=None)
    assert figures.median == (statistics.median(values) if values else None)
    assert figures.sum == math.fsum(values)
    assert not any(is_negative_zero(found) for found in (figures.min, figures.max, figures.sum, figures.median))


def is_negative_zero(value: float | None) -> bool:
    return value == 0 and math.copysign(1, value) < 0


@given(rows=rows, names=names)
@example(rows=[(999.9999 + n * 1e-9, 1e-9 * n, -1000.0) for n in range(50)], names=["mean", "stddev"])
@example(rows=[(1.0, 2.0, 3.0)], names=["stddev", "p25", "mean"])
@everything
async def test_the_figures_on_request(
    database: psycopg.AsyncConnection[Any], rows: list[Row], names: list[str]
) -> None:
    device, wanted = await stored(database, rows), FigureNames.of(names)

    found = await analyse(database, device, START, None, wanted)

    assert_ends(found, [rows], wanted)
    for figures, values in zip((found.x, found.y, found.z), axes(rows), strict=True):
        assert_exact(figures, values)
        assert_as_asked(figures, values, wanted)


def assert_as_asked(figures: Figures, values: Sequence[float], wanted: FigureNames) -> None:
    exactly = [Fraction(value) for value in values]
    expected = {
        "mean": lambda: float(statistics.mean(exactly)) if values else None,
        "stddev": lambda: statistics.stdev(values) if len(values) > 1 else None,
        "variance": lambda: float(statistics.variance(exactly)) if len(values) > 1 else None,
        "range": lambda: max(values) - min(values) if values else None,
        "mad": lambda: median_deviation(values) if values else None,
    }
    for name in set(wanted.single) & expected.keys():
        assert getattr(figures, name) == expected[name](), name
    if "iqr" in wanted.single:
        quarters = np.percentile(values, [25, 75]) if values else None
        close(figures.iqr, float(quarters[1] - quarters[0]) if quarters is not None else None, values)
    assert tuple(name for name in ON_REQUEST if getattr(figures, name) is not UNSET) == wanted.single
    if not wanted.percentiles:
        assert figures.percentiles is UNSET
        return
    assert isinstance(figures.percentiles, dict)
    assert list(figures.percentiles) == list(wanted.percentiles)
    for name, value in figures.percentiles.items():
        close(value, float(np.percentile(values, float(name[1:]))) if values else None, values)


def assert_ends(found: Analysis, groups: Sequence[Sequence[Row]], wanted: FigureNames) -> None:
    """The first and the last of the readings of several devices, in the order of time, x, y and z."""
    readings = sorted((NOON + n, *row) for rows in groups for n, row in enumerate(rows))
    for name, place in (("first", 0), ("last", -1)):
        if name in wanted.single:
            ends = (
                [Measurement(to_datetime(readings[place][0]), value) for value in readings[place][1:]]
                if readings
                else [None] * 3
            )
            assert [getattr(figures, name) for figures in (found.x, found.y, found.z)] == ends


def median_deviation(values: Sequence[float]) -> float:
    median = statistics.median(values)
    return statistics.median(abs(value - median) for value in values)


def close(found: object, expected: float | None, values: Sequence[float]) -> None:
    """Equal but for the rounding of an interpolation."""
    if expected is None:
        assert found is None
        return
    assert isinstance(found, float)
    size = max(map(abs, values))
    lost = max(len(values) * size * 2**-52, 1e-150)  # the square of what is smaller is 0
    assert math.isclose(found, expected, rel_tol=1e-12, abs_tol=lost), (found, expected)


@given(groups=st.lists(rows.map(lambda rows: rows[:20]), min_size=1, max_size=4), names=names)
@example(groups=[[(1.0, 2.0, -0.0)], [], [(-0.0, 5.0, 1.0)]], names=["first", "last", "mad"])
@settings(everything, max_examples=30)
async def test_several_devices(
    database: psycopg.AsyncConnection[Any], groups: list[list[Row]], names: list[str]
) -> None:
    """Together: the figures of all readings. Each: the figures of each device."""
    devices = [await stored(database, rows) for rows in groups][::-1]
    wanted = FigureNames.of(names)

    together = await analyse(database, devices, START, None, wanted)
    each = await analyse_each(database, devices, START, None, wanted)

    assert_ends(together, groups, wanted)
    united = axes([row for rows in groups for row in rows])
    for figures, values in zip((together.x, together.y, together.z), united, strict=True):
        assert_exact(figures, values)
        assert_as_asked(figures, values, wanted)
    assert list(each) == devices
    for device, found in each.items():
        assert found == await analyse(database, device, START, None, wanted)


async def test_unknown_devices(database: psycopg.AsyncConnection[Any]) -> None:
    device = await stored(database, [(1.0, 2.0, 3.0)])
    await database.execute("DELETE FROM devices WHERE id = %s", (device,))  # its readings are not yet removed
    for analysing in (
        analyse(database, device, None, None),
        analyse(database, [device], None, None),
        analyse_each(database, [device], None, None),
    ):
        with pytest.raises(UnknownDevices) as raised:
            await analysing
        assert raised.value.devices == (device,)


@given(names=names)
def test_equal_requests_are_equal(names: list[str]) -> None:
    wanted = FigureNames.of(names)
    assert FigureNames.of(wanted.names) == FigureNames.of(names[::-1] + names) == wanted
    assert len(wanted.fractions) == len(wanted.percentiles) <= len(names)
    assert wanted.fractions == sorted(wanted.fractions)
    assert bool(names) == (wanted != FIVE)


def test_percentiles_have_one_spelling() -> None:
    assert FigureNames.of(["p99.90", "p99.9", "p5", "p05", "p5.0", "p100.0", "p0.10"]).percentiles == (
        "p0.1",
        "p5",
        "p99.9",
        "p100",
    )
    for name in ("p", "p-1", "p100.1", "p101", "p1e1", "P5", "p5.", "p.5", "p0.0000001", "p٣", "p5\n", "", "max"):
        with pytest.raises(ValueError, match="no figure is named"):
            FigureNames.of([name])
    with pytest.raises(ValueError, match="at most 20"):
        FigureNames.of([f"p{rank}" for rank in range(21)])
