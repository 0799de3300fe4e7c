"""Where the marks of a block are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.statistics.blocks.layout import STANDARD, Layout, spread

layouts = st.builds(
    Layout,
    marks=st.sampled_from([1, 4, 256]),
    least_stride=st.sampled_from([1, 2, 32]),
    guide=st.sampled_from([2, 128]),
)
counts = st.lists(st.integers(1, 70_000), min_size=1, max_size=5).map(lambda given: np.array(given, np.int64))


@given(layouts, counts)
def test_marks_are_few_and_evenly_spaced(layout: Layout, counts: np.ndarray) -> None:
    numbers, strides = layout.mark_counts(counts), layout.strides(counts)
    positions = np.split(layout.mark_positions(counts), np.cumsum(numbers)[:-1])

    for count, number, stride, of_block in zip(counts, numbers, strides, positions, strict=True):
        assert 1 <= len(of_block) == number <= layout.marks + 1
        assert of_block[0] == 0
        assert of_block[-1] == count - 1
        assert np.all(np.diff(of_block[:-1]) == stride)
        assert number < 2 or 0 < of_block[-1] - of_block[-2] <= stride
        smaller = stride // 2
        assert smaller < layout.least_stride or smaller * layout.marks < count, "no smaller stride would do"


@pytest.mark.parametrize(("count", "stride"), [(1, 32), (8192, 32), (8193, 64), (1 << 18, 1024), (1 << 23, 1 << 15)])
def test_the_strides_of_the_standard_layout(count: int, stride: int) -> None:
    assert STANDARD.strides(np.array([count])).tolist() == [stride]
    assert STANDARD.mark_counts(np.array([count])) <= 257


def test_numbers_up_to_each_count() -> None:
    assert spread(np.array([2, 0, 3])).tolist() == [0, 1, 0, 1, 2]
    assert spread(np.array([], np.int64)).tolist() == []
