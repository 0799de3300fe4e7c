"""Histograms of sealed, late and unsealed readings against those of all readings, and over HTTP."""

import random
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
import pytest

from query_api.errors import UnknownDevices
from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.layout import AXES, Floats
from query_api.statistics.blocks.reading.statistics import Limits
from query_api.statistics.histogram import AT_ONCE, Bins, read_histogram
from shared.readings.model import Microseconds, to_datetime
from tests import hostile
from tests.conftest import Database
from tests.integration.test_analysis import at, store
from tests.integration.test_statistics_of_blocks import edges_of, layout_of, period, readings_of, seal_some


@pytest.mark.parametrize("seed", range(20))
async def test_counts_are_those_of_all_readings(database: Database, seed: int) -> None:
    chance, rng = random.Random(seed), np.random.default_rng(seed)
    layout = layout_of(chance)
    columns = readings_of(chance, rng)
    await seal_some(database, 1, columns, chance, layout)
    ends = await edges_of(database)
    for _ in range(10):
        start, end = period(chance, [columns], ends)
        few = chance.choice([0, 40_000])
        limits = Limits(few=few, piece=chance.choice([3, 50, 10**6]), kept=chance.choice([0, 100]))
        bins, bounds = chance.choice([1, 2, 7, 20, 1000]), bounds_of(chance, columns)
        axes = chance.choice([AXES, AXES, ("y",)])
        moments = [None if one is None else to_datetime(one) for one in (start, end)]

        found = await read_histogram(
            database, 1, *moments, axes, bins, bounds, layout, limits, chance.choice([1, 1000, AT_ONCE])
        )

        within = part(columns, start, end)
        assert found.count == within.sum()
        assert list(found.axes) == list(axes)
        for axis, own in found.axes.items():
            assert_counted(own, columns.axes[AXES.index(axis)][within], bins, bounds)


def bounds_of(chance: random.Random, columns: Columns) -> tuple[float, float] | None:
    """Values of an axis, or any; None half of the time."""
    values = {*chance.choice(columns.axes).tolist()[:50], -1000.0, 0.5, 1000.0, chance.uniform(-1000, 1000)}
    least, greatest = sorted(chance.sample([value + 0.0 for value in values], 2))
    return (least, greatest) if least < greatest and chance.random() < 0.5 else None


def part(columns: Columns, start: Microseconds | None, end: Microseconds | None) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return (columns.times >= (start or -(2**62))) & (columns.times <= (end or 2**62))


def assert_counted(found: Bins, values: Floats, bins: int, bounds: tuple[float, float] | None) -> None:
    if len(values) == 0 and bounds is None:
        assert found == Bins([], [], 0, 0)
        return
    first, last = bounds or (float(values.min()), float(values.max()))
    number = bins if first < last else 1
    width = Fraction(last) - Fraction(first)
    assert found.edges == [float(Fraction(first) + width * place / number) for place in range(number + 1)]
    assert found.counts == counted(values, found.edges)
    assert (found.below, found.above) == (np.count_nonzero(values < first), np.count_nonzero(values > last))
    assert found.below + sum(found.counts) + found.above == len(values)


def counted(values: Floats, edges: Sequence[float]) -> list[int]:
    below = [np.count_nonzero(values < edge) for edge in edges]
    below[-1] = np.count_nonzero(values <= edges[-1])
    return np.diff(below).tolist()


async def test_a_device_that_is_not_there(database: Database) -> None:
    with pytest.raises(UnknownDevices):
        await read_histogram(database, 1, None, None, AXES, 20, None)


# Over HTTP.

WALK = hostile.values("walk", 1000, np.random.default_rng(1)).tolist()


async def get(api: httpx.AsyncClient, device: int, **query: Any) -> dict[str, Any]:
    answer = await api.get(f"/stats/{device}/histogram", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_the_bins_of_each_axis(api: httpx.AsyncClient, device: int) -> None:
    await store(api, device, [(x, 0.25 * (n % 5), 7.0) for n, x in enumerate(WALK)])

    found = await get(api, device)

    assert {name: found[name] for name in ("device_id", "start", "end", "count")} == {
        "device_id": device, "start": None, "end": None, "count": 1000,
    }  # fmt: skip
    assert len(found["x"]["edges"]) == 21
    assert found["x"]["edges"][::20] == [min(WALK), max(WALK)]
    counts, _ = np.histogram(WALK, found["x"]["edges"])
    assert found["x"]["counts"] == counts.tolist()
    assert found["z"] == {"edges": [7.0, 7.0], "counts": [1000], "below": 0, "above": 0}
    quarters = (await get(api, device, bins=4, axis="y"))["y"]
    assert quarters == {"edges": [0.0, 0.25, 0.5, 0.75, 1.0], "counts": [200, 200, 200, 400], "below": 0, "above": 0}


async def test_the_bins_of_a_period_and_of_given_bounds(api: httpx.AsyncClient, device: int) -> None:
    await store(api, device, [(x, 0.0, -0.0) for x in range(10)])
    some = await get(api, device, start=at(2), end=at(7), bins=2, axis="x")
    assert some == {
        "device_id": device, "start": at(2), "end": at(7), "count": 6,
        "x": {"edges": [2.0, 4.5, 7.0], "counts": [3, 3], "below": 0, "above": 0},
    }  # fmt: skip
    given = await get(api, device, min=1, max=5, bins=2)
    assert given["x"] == {"edges": [1.0, 3.0, 5.0], "counts": [2, 3], "below": 1, "above": 4}
    assert given["z"] == {"edges": [1.0, 3.0, 5.0], "counts": [0, 0], "below": 10, "above": 0}


async def test_without_readings(api: httpx.AsyncClient, device: int) -> None:
    none = {"edges": [], "counts": [], "below": 0, "above": 0}
    found = await get(api, device)
    assert (found["count"], found["x"], found["y"], found["z"]) == (0, none, none, none)
    given = await get(api, device, min=-1, max=1, bins=2, axis="z")
    assert given["z"] == {"edges": [-1.0, 0.0, 1.0], "counts": [0, 0], "below": 0, "above": 0}
    assert "x" not in given


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ("bins=0", "bins", "expected a whole number from 1 to 1000, got '0'"),
        ("bins=1001", "bins", "expected a whole number from 1 to 1000, got '1001'"),
        ("bins=many", "bins", "expected a whole number from 1 to 1000, got 'many'"),
        ("axis=w", "axis", "expected x, y or z, got 'w'"), ("axis=null", "axis", "expected x, y or z, got 'null'"),
        ("axis=x,y", "axis", "expected x, y or z, got 'x,y'"), ("axis=", "axis", "expected x, y or z, got ''"),
        ("min=0", "max", "is missing: expected both min and max, or neither; got only min"),
        ("max=0", "min", "is missing: expected both min and max, or neither; got only max"),
        ("min=1&max=1", "min", "expected less than max, 1.0; got 1.0"),
        ("min=nan&max=1", "min", "expected a number from -1000 to 1000, got 'nan'"),
        ("min=0&max=inf", "max", "expected a number from -1000 to 1000, got 'inf'"),
        ("min=-1001&max=1", "min", "expected a number from -1000 to 1000, got '-1001'"),
        ("min=0&max=low", "max", "expected a number from -1000 to 1000, got 'low'"),
        ("min=0&max=1&min=2", "min", "once"), ("bin=3", "bin", "did you mean bins?"),
    ],
)  # fmt: skip
async def test_what_is_refused(api: httpx.AsyncClient, device: int, query: str, field: str, said: str) -> None:
    answer = await api.get(f"/stats/{device}/histogram?{query}")
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert said in error["detail"]


async def test_unknown_devices_and_reversed_periods(api: httpx.AsyncClient, device: int) -> None:
    for unknown in (device + 1, 0, -1, 2**63):
        answer = await api.get(f"/stats/{unknown}/histogram")
        assert (answer.status_code, answer.json()["detail"]) == (
            404, f"there is no device {unknown}: GET /devices lists them",
        )  # fmt: skip
    answer = await api.get(f"/stats/{device}/histogram", params={"start": at(1), "end": at(0)})
    assert answer.status_code == 400
