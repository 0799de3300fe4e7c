"""Each value of a block follows to the bit from its few bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from query_api.statistics.blocks.coding import (
    RAW,
    code_column,
    code_sorted,
    code_times,
    decode_column,
    decode_sorted,
    decode_times,
)
from query_api.statistics.blocks.layout import Floats, Times

STRIDE = 4
ANY = st.floats(-1e300, 1e300)
DECIMALS = st.integers(-(10**6), 10**6).flatmap(lambda n: st.integers(0, 6).map(lambda digits: n / 10**digits))
NOISY = DECIMALS.flatmap(lambda value: st.sampled_from([value, np.nextafter(value, 1e9), value * 1.1 / 1.1, -0.0]))


def columns(values: st.SearchStrategy[float]) -> st.SearchStrategy[Floats]:
    return st.integers(1, 60).flatmap(lambda size: arrays(np.float64, size, elements=values))


EACH = st.one_of(columns(DECIMALS), columns(NOISY), columns(ANY))


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.tobytes() == expected.tobytes()


@given(EACH)
def test_a_column_is_the_same_again(values: Floats) -> None:
    coding, data = code_column(values)
    assert len(data) == len(values) * coding.entry_bytes
    assert same(decode_column(coding, data), values)


@given(EACH, st.data())
def test_parts_of_sorted_values_are_the_same_again(values: Floats, data: st.DataObject) -> None:
    values = np.sort(values + 0.0)
    coding, coded = code_sorted(values)
    starts = data.draw(st.lists(st.integers(0, len(values)), max_size=4))
    parts = [(start, data.draw(st.integers(start, len(values)))) for start in starts]
    taken = b"".join(coded[start * coding.entry_bytes : end * coding.entry_bytes] for start, end in parts)
    sizes = np.array([end - start for start, end in parts], np.int64)
    before = np.array([values[max(0, start - 1)] for start, _ in parts])
    expected = np.concatenate([np.empty(0), *(values[start:end] for start, end in parts)])
    assert same(decode_sorted(coding, taken, sizes, before), expected)


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=40), st.sampled_from([1, 1000, 10**6]))
def test_times_are_the_same_again(steps: list[int], unit: int) -> None:
    times: Times = np.cumsum(np.array(steps, np.int64)) * unit % 2**60
    times = np.sort(times)
    coding, data = code_times(times, STRIDE)
    for start in range(0, len(times), STRIDE):
        part = data[start * coding.entry_bytes :]
        assert same(decode_times(coding, part, times[start::STRIDE], STRIDE), times[start:])


@pytest.mark.parametrize(
    ("values", "width"),
    [
        ([20.01, 20.02, 20.03], 1),
        ([20.01, 22.57, 90.0], 2),
        ([0.000001, 5.0, 6.0], 4),
        ([0.1 + 0.2, 0.3, 0.4], 2),  # with corrections
        ([1 / 3, 0.4, 0.5], 8),
        ([-1e300, 0.0, 1e300], 8),
    ],
)
def test_few_decimals_take_few_bytes(values: list[float], width: int) -> None:
    assert code_sorted(np.array(values))[0].entry_bytes == width


def test_seconds_take_a_byte() -> None:
    assert code_times(np.arange(1000) * 10**6, 256)[0].entry_bytes == 1


def test_times_that_lie_far_apart_stay_as_they_are() -> None:
    assert code_times(np.arange(10) * 10**17 + np.arange(10), 4)[0].digits == RAW
