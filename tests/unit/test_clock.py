"""Times of receipt: the system's, but never the same twice."""

from hypothesis import given
from hypothesis import strategies as st

from shared.clock import MAX_LEAD, Clock

YEAR_US = 365 * 86_400 * 1_000_000


@given(st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(1, 1000))))
def test_no_moment_is_given_out_twice_while_the_clock_goes_on(steps: list[tuple[int, int]]) -> None:
    now, free = 1_000_000, 0

    clock = Clock(lambda: now * 1000)
    for ahead, count in steps:
        now += ahead
        first = clock.read()
        assert first >= max(free, now)
        clock.take(first, count)
        free = first + count


def test_a_clock_that_was_wrong_once_is_believed_again_when_it_is_set_right() -> None:
    now = 1_000_000
    clock = Clock(lambda: now * 1000)
    now += YEAR_US
    clock.take(clock.read(), 1)
    now -= YEAR_US
    assert clock.read() == now


def test_a_small_step_back_is_smoothed() -> None:
    now = 100 * MAX_LEAD
    clock = Clock(lambda: now * 1000)
    clock.take(clock.read(), 1)
    before = now
    now -= MAX_LEAD // 2
    assert clock.read() == before + 1
