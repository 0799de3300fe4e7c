"""What a block is built of (Hypothesis)."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from query_api.statistics.blocks.building import Axis, Columns
from query_api.statistics.blocks.layout import Layout
from shared.readings.rules import AXIS_LIMIT

SMALL = Layout(marks=4, least_stride=2, guide=3)

values = st.one_of(st.floats(-AXIS_LIMIT, AXIS_LIMIT), st.sampled_from([0.0, -0.0, 1.0, 5e-324, -5e-324]))
axes = st.lists(values, min_size=1, max_size=80)
few = st.integers(0, 3)
readings = st.lists(st.tuples(few, few.map(float), few.map(float), values), min_size=1, max_size=40)
Reading = tuple[int, float, float, float]


def columns_of(rows: Sequence[Reading]) -> Columns:
    times, x, y, z = zip(*rows, strict=True)
    return Columns.ordered(np.array(times, np.int64), np.array(x), np.array(y), np.array(z))


def rows_of(columns: Columns) -> list[Reading]:
    return list(zip(columns.times.tolist(), *(axis.tolist() for axis in columns.axes), strict=True))


@given(readings)
def test_columns_are_in_the_order_of_the_unique_key(rows: list[Reading]) -> None:
    columns = columns_of(rows)
    assert rows_of(columns) == sorted(rows)
    assert (columns.first, columns.last, len(columns)) == (min(rows)[0], max(rows)[0], len(rows))


@given(st.lists(readings, min_size=1, max_size=4))
def test_joined_columns_are_in_order(parts: list[list[Reading]]) -> None:
    joined = Columns.joined([columns_of(part) for part in parts])
    assert rows_of(joined) == sorted(row for part in parts for row in part)
    assert rows_of(joined[1:3]) == rows_of(joined)[1:3]


@given(axes)
def test_an_axis_is_sorted_and_its_zeros_have_no_sign(given: list[float]) -> None:
    axis = Axis.of(np.array(given))
    assert axis.values.tolist() == sorted(given)
    assert not np.any(np.signbit(axis.values[axis.values == 0]))
    assert Fraction(axis.total) == sum(map(Fraction, given))
    assert Fraction(axis.squares) == sum(Fraction(value) ** 2 for value in given)


@given(axes)
def test_marks_and_guides_are_values_at_their_positions(given: list[float]) -> None:
    axis = Axis.of(np.array(given))
    positions = SMALL.mark_positions(np.array([len(given)]))
    assert axis.marks(SMALL).tolist() == [axis.values[position] for position in positions]
    assert axis.guides(SMALL).tolist() == axis.values.tolist()[::3]
