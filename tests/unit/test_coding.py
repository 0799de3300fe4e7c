"""Each value of a block follows to the bit from its few bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from query_api.statistics.blocks.coding import (
    RAW,
    Coding,
    code_column,
    code_sorted,
    code_times,
    decode_column,
    decode_sorted,
    decode_times,
)
from query_api.statistics.blocks.layout import Floats

SIZE = 4
ANY = st.floats(-1e300, 1e300)
DECIMALS = st.integers(-(10**6), 10**6).flatmap(lambda n: st.integers(0, 6).map(lambda digits: n / 10**digits))
NOISY = DECIMALS.flatmap(lambda value: st.sampled_from([value, np.nextafter(value, 1e9), value * 1.1 / 1.1, -0.0]))


def columns(values: st.SearchStrategy[float]) -> st.SearchStrategy[Floats]:
    return st.integers(1, 60).flatmap(lambda size: arrays(np.float64, size, elements=values))


EACH = st.one_of(columns(DECIMALS), columns(NOISY), columns(ANY))


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found[: len(expected)].tobytes() == expected.tobytes() and len(found) - len(expected) < SIZE


@given(EACH)
def test_a_column_is_the_same_again(values: Floats) -> None:
    coded = code_column(values, SIZE)
    assert len(coded.data) == -(-len(values) // SIZE) * coded.frame_bytes
    assert same(decode_column(coded.coding, coded.data, SIZE), values)


@given(EACH, st.integers(0, 14), st.integers(1, 15))
def test_frames_of_sorted_values_are_the_same_again(values: Floats, first: int, number: int) -> None:
    values = np.sort(values + 0.0)
    coded = code_sorted(values, SIZE)
    taken = coded.data[first * coded.frame_bytes :][: number * coded.frame_bytes]
    assert same(decode_sorted(coded.coding, taken, SIZE), values[first * SIZE :][: number * SIZE])


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=40), st.sampled_from([1, 1000, 10**6]))
def test_times_are_the_same_again(steps: list[int], unit: int) -> None:
    times = np.cumsum(np.array(steps, np.int64)) * unit
    coded = code_times(times, SIZE)
    assert same(decode_times(coded.coding, coded.data, SIZE), times)


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ([20.01, 20.02, 20.03], 210),
        ([20.01, 22.58, 90.0], 220),
        ([0.000001, 5.0, 6.0], 640),
        ([0.1 + 0.2, 0.4, 0.5], 111),
        ([1 / 3, 0.4, 0.5], 0),
        ([-1e300, 0.0, 1e300], 0),
    ],
)
def test_few_decimals_take_few_bytes(values: list[float], number: int) -> None:
    coding = code_sorted(np.array(values), SIZE).coding
    assert coding.number == number
    assert Coding.of(number) == coding


@pytest.mark.parametrize("size", [128, 256])
def test_long_arrays_are_the_same_again(size: int) -> None:
    """They are coded part by part. Only one of the parts has three digits."""
    rng = np.random.default_rng(1)
    values = np.round(rng.normal(0, 1, 200_000), 2)
    values[150_000] = 0.125
    column, ordered = code_column(values, size), code_sorted(np.sort(values + 0.0), size)
    assert decode_column(column.coding, column.data, size)[: len(values)].tobytes() == values.tobytes()
    assert np.array_equal(decode_sorted(ordered.coding, ordered.data, size)[: len(values)], np.sort(values))
    assert column.coding.digits == ordered.coding.digits == 3


def test_seconds_take_a_byte() -> None:
    assert code_times(np.arange(1000) * 10**6, 256).coding == Coding(6, 1)


def test_times_that_lie_far_apart_stay_as_they_are() -> None:
    assert code_times(np.arange(10) * 10**17 + np.arange(10), 4).coding.digits == RAW
