"""Exact sums against math.fsum and the fractions of the standard library."""

import math
import statistics
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from query_api.statistics.blocks import exact
from shared.readings.rules import AXIS_LIMIT
from tests import hostile

GREATEST, LEAST = 1.7976931348623157e308, 5e-324

finite = st.floats(allow_nan=False, allow_infinity=False)
axis = st.one_of(
    st.floats(-AXIS_LIMIT, AXIS_LIMIT),
    st.floats(-AXIS_LIMIT, AXIS_LIMIT).map(lambda value: round(value, 2)),
    st.sampled_from([AXIS_LIMIT, -AXIS_LIMIT, 0.0, -0.0, LEAST, -LEAST, 2.2250738585072014e-308, 999.9999999999999]),
)
CANCELLATION = [1000.0, 1e-13, -1000.0, 3e-17, 1e-300, -1e-13]


def fraction_of(values: Sequence[float]) -> Fraction:
    return sum(map(Fraction, values), Fraction(0))


@given(st.lists(finite, max_size=60))
@example([GREATEST, GREATEST, -GREATEST, LEAST, -GREATEST])
@example(CANCELLATION)
@example([-0.0, 0.0])
def test_a_sum_is_exact(values: list[float]) -> None:
    assert Fraction(exact.total(np.array(values))) == fraction_of(values)


@given(st.lists(finite, max_size=60))
@example([GREATEST, LEAST])
@example(CANCELLATION)
def test_a_sum_of_squares_is_exact(values: list[float]) -> None:
    assert Fraction(exact.total_of_squares(np.array(values))) == sum((Fraction(v) ** 2 for v in values), Fraction(0))


@given(st.lists(axis, max_size=60))
@example(CANCELLATION)
def test_a_sum_is_rounded_once(values: list[float]) -> None:
    found = exact.rounded(exact.total(np.array(values)))
    assert found == math.fsum(values)
    assert math.copysign(1, found) == 1 or found < 0, "zero has no sign"


@pytest.mark.parametrize("size", [exact._PART - 1, exact._PART, 3 * exact._PART + 1])
def test_a_sum_of_several_steps(size: int) -> None:
    values = np.random.default_rng(size).uniform(-AXIS_LIMIT, AXIS_LIMIT, size)
    values[::7] *= 1e-200
    assert exact.rounded(exact.total(values)) == math.fsum(values)
    assert exact.rounded(exact.total_of_squares(values)) == pytest.approx(float(values @ values))


@given(st.lists(st.lists(st.one_of(finite, axis), max_size=20), max_size=8))
@example([[GREATEST, -LEAST], [], [LEAST, 1.0], [GREATEST]])
def test_lists_are_summed_each(lists: list[list[float]]) -> None:
    values, sizes = np.array([value for one in lists for value in one]), [len(one) for one in lists]
    assert exact.totals(values, sizes) == [exact.total(np.array(one)) for one in lists]
    assert exact.totals_of_squares(values, sizes) == [exact.total_of_squares(np.array(one)) for one in lists]


@pytest.mark.parametrize("kind", ["walk", "scales", "extremes"])
def test_many_lists_are_summed_in_several_steps(kind: str) -> None:
    """Some lists are longer than a step, and some steps hold several lists."""
    sizes = [exact._PART + 1, 3, 0, 500, exact._PART - 400, 2 * exact._PART, 1]
    values = hostile.values(kind, sum(sizes), np.random.default_rng(1))
    lists = np.split(values, np.cumsum(sizes)[:-1])
    for sums, power in ((exact.totals, 1), (exact.totals_of_squares, 2)):
        assert [Fraction(one) for one in sums(values, sizes)] == [_naive(one, power) for one in lists]


def _naive(values: np.ndarray, power: int) -> Fraction:
    """Add integers: each value is a multiple of 2^-1074."""
    unit = 1 << 1074
    ratios = (value.as_integer_ratio() for value in values.tolist())
    return Fraction(
        sum(numerator**power * (unit // denominator) ** power for numerator, denominator in ratios), unit**power
    )


def test_values_with_all_bits_in_a_full_step() -> None:
    """As many as one step sums: no sum of a grid is greater than 2^53 of its multiples."""
    value = math.nextafter(1.0, 0)
    values = np.full(exact._PART, value)
    assert Fraction(exact.total(values)) == Fraction(value) * exact._PART
    assert Fraction(exact.total_of_squares(values)) == Fraction(value) ** 2 * exact._PART


@given(st.lists(axis, max_size=40), st.lists(axis, max_size=40))
def test_sums_of_parts_add_up(first: list[float], second: list[float]) -> None:
    for total in (exact.total, exact.total_of_squares):
        added = exact.add(total(np.array(first)), total(np.array(second)))
        assert added == total(np.array(second[::-1] + first))


@given(st.lists(axis, min_size=1, max_size=40))
@example([LEAST, 0.0])
@example(CANCELLATION)
def test_a_mean_is_rounded_once(values: list[float]) -> None:
    assert exact.mean(len(values), exact.total(np.array(values))) == float(fraction_of(values) / len(values))


@given(st.lists(axis, min_size=2, max_size=40))
@example([LEAST, 0.0])
@example([999.9999999999999, 999.9999999999998, 1000.0])
@example([2.0, 2.0, 2.0])
@example(CANCELLATION)
def test_variance_and_deviation_are_rounded_once(values: list[float]) -> None:
    array = np.array(values)
    sums = len(values), exact.total(array), exact.total_of_squares(array)
    variance = statistics.variance(map(Fraction, values))
    assert exact.variance(*sums) == float(variance)
    assert_is_nearest_root(exact.stddev(*sums), variance)


def assert_is_nearest_root(found: float, squared: Fraction) -> None:
    if squared == 0:
        assert found == 0
        return
    below, above = (Fraction(math.nextafter(found, to)) for to in (0.0, math.inf))
    assert ((below + Fraction(found)) / 2) ** 2 <= squared <= ((Fraction(found) + above) / 2) ** 2


def test_a_root_between_two_floats_is_rounded_by_all_its_digits() -> None:
    """Its first 64 bits lie halfway between two floats."""
    halfway = (2**53 + 1) ** 2 << 200
    assert exact._root(halfway, 1 << 304) == 2.0
    assert exact._root(halfway + 1, 1 << 304) == math.nextafter(2.0, 3)


def test_a_sum_beyond_float64_is_refused() -> None:
    with pytest.raises(OverflowError):
        exact.rounded(exact.total(np.array([GREATEST, GREATEST])))


def test_no_values_add_up_to_zero() -> None:
    nothing = np.empty(0)
    assert exact.total(nothing) == exact.total_of_squares(nothing) == exact.add() == Decimal(0)


def test_the_widest_sum_of_squares_has_all_its_digits() -> None:
    widest = exact.total_of_squares(np.array([GREATEST, LEAST]))
    assert Fraction(widest) == Fraction(GREATEST) ** 2 + Fraction(LEAST) ** 2
