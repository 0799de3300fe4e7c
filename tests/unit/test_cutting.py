"""Where blocks end (Hypothesis), against a search through all places."""

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from query_api.statistics.blocks.cutting import ROUND_STEPS, cuts, months_of
from query_api.statistics.blocks.layout import Times
from shared.readings.model import DAY, SECOND, to_datetime, to_microseconds

starts = st.integers(
    to_microseconds(datetime(1969, 12, 31, tzinfo=UTC)), to_microseconds(datetime(2031, 1, 1, tzinfo=UTC))
)
gaps = st.sampled_from([0, 0, 1, 1000, SECOND, 17 * SECOND, 3600 * SECOND, 5 * DAY])
minutes = st.sampled_from([1, 7, 20, 55, 240]).map(lambda count: count * 60 * SECOND)
targets = st.sampled_from([2, 3, 4, 8, 16])


@st.composite
def moments(draw: st.DrawFn) -> Times:
    """Times in ascending order: some equal, some far apart, also across months and years; or at equal distances."""
    steps = st.lists(gaps, max_size=120) | st.builds(
        lambda gap, count: [gap] * count, gaps | minutes, st.integers(0, 99)
    )
    return draw(starts) + np.cumsum(np.array(draw(steps), np.int64))


def roundness(times: Times, place: int) -> int:
    """The rank of the roundest time at which a block that begins at the place may begin: 0 is a day."""
    before, first = int(times[place - 1]), int(times[place])
    return next((rank for rank, step in enumerate(ROUND_STEPS) if first // step * step > before), len(ROUND_STEPS))


@given(moments(), targets, st.booleans())
def test_blocks_end_between_moments_and_within_months(times: Times, target: int, is_open: bool) -> None:
    ends = cuts(times, target, is_open=is_open)

    assert ends == sorted(set(ends))
    assert ends[-1:] == ([len(times)] if len(times) else [])
    for begin, end in pairwise([0, *ends]):
        assert len({(to_datetime(int(t)).year, to_datetime(int(t)).month) for t in times[begin:end]}) == 1
        assert end == len(times) or times[end - 1] < times[end]


@given(moments(), targets, st.booleans())
def test_blocks_have_about_the_target(times: Times, target: int, is_open: bool) -> None:
    least, most = max(1, target // 2), target + target // 2
    for begin, end in pairwise([0, *cuts(times, target, is_open=is_open)]):
        left = left_of_month(times, begin)
        if left <= longest_rest(times, begin, target, is_open=is_open):
            assert end - begin == left
        elif len(np.unique(times[begin : begin + most + 1])) == most + 1:
            assert least <= end - begin <= most


def left_of_month(times: Times, begin: int) -> int:
    """The number of readings from this one on in its month."""
    months = months_of(times[begin:])
    return int(np.count_nonzero(months == months[0]))


def longest_rest(times: Times, begin: int, target: int, *, is_open: bool) -> int:
    is_last_month = begin + left_of_month(times, begin) == len(times)
    return target - 1 if is_open and is_last_month else target + target // 2


@given(moments(), targets)
def test_blocks_end_at_the_roundest_time(times: Times, target: int) -> None:
    least, most = max(1, target // 2), target + target // 2
    for begin, end in pairwise([0, *cuts(times, target, is_open=True)]):
        left = left_of_month(times, begin)
        if left <= longest_rest(times, begin, target, is_open=True):
            continue
        rest = times[begin : begin + left]
        places = [place for place in range(least, min(most, left - 1) + 1) if rest[place - 1] < rest[place]]
        if places:
            best = min(roundness(rest, place) for place in places)
            assert roundness(rest, end - begin) == best
            if best < len(ROUND_STEPS):
                assert end - begin == max(place for place in places if roundness(rest, place) == best)


def test_a_day_of_readings_each_second_is_cut_at_hours() -> None:
    midnight = to_microseconds(datetime(2026, 3, 1, tzinfo=UTC))
    times = midnight + np.arange(86_400) * SECOND
    ends = cuts(times, 8192, is_open=False)
    assert [end / 3600 for end in ends] == [3, 6, 9, 12, 15, 18, 21, 24]


def test_many_readings_of_one_moment_are_one_block() -> None:
    times = np.full(100, 7)
    assert cuts(times, 8, is_open=True) == [100]
    assert cuts(np.append(times, 8), 8, is_open=False) == [100, 101]
    assert cuts(np.array([], np.int64), 8, is_open=True) == []
