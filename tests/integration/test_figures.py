"""The figures of any readings, against Python's own (Hypothesis)."""

import itertools
import math
import statistics
from datetime import UTC, datetime
from typing import Any

import psycopg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.analysis import Figures, analyse
from shared.models import AXIS_LIMIT, Reading
from shared.readings import Partitions, prepare, store

NOON = 1_769_860_800_000_000
_devices = itertools.count(1)

axis = st.one_of(
    st.floats(-AXIS_LIMIT, AXIS_LIMIT),
    st.floats(-AXIS_LIMIT, AXIS_LIMIT).map(lambda value: round(value, 2)),
    st.sampled_from([AXIS_LIMIT, -AXIS_LIMIT, 0.0, -0.0, 5e-324, -5e-324, 2**-11, 999.9999999999999]),
)
rows = st.lists(st.tuples(axis, axis, axis), max_size=60)


@given(rows=rows)
@example(rows=[(0.1, 1e-300, 1000.0)] * 7 + [(-0.1, 3e-300, -1000.0)] * 7)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_figures_are_exact(
    database: psycopg.AsyncConnection[Any], rows: list[tuple[float, float, float]]
) -> None:
    device = next(_devices)
    readings = [Reading(device, NOON + n, NOON, *row) for n, row in enumerate(rows)]
    await prepare(database)
    await Partitions().ensure(database, readings)
    async with database.transaction():
        await store(database, readings)

    found = await analyse(database, device, datetime(2026, 1, 1, tzinfo=UTC), None)

    for figures, values in zip((found.x, found.y, found.z), zip(*rows, strict=True) if rows else [()] * 3, strict=True):
        assert_exact(figures, values)


def assert_exact(figures: Figures, values: tuple[float, ...]) -> None:
    if not values:
        assert figures == Figures(min=None, max=None, sum=0.0, count=0, median=None)
        return
    assert figures.count == len(values)
    assert figures.min == min(values)
    assert figures.max == max(values)
    assert figures.median == statistics.median(values)
    # What is lost is below the last place of the remainders (2^-11 each), even where all else cancels.
    assert math.isclose(figures.sum, math.fsum(values), rel_tol=1e-12, abs_tol=len(values) * 2**-62)
