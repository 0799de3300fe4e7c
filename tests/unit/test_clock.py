"""Times of receipt: from the system clock, and unique."""

from itertools import combinations
from math import gcd

from hypothesis import given
from hypothesis import strategies as st

from ingestor.session.processes import Share, draining_clock
from query_api.readings.intake import receipt_clock
from shared.readings.clock import SMOOTHED, Clock

YEAR_US = 365 * 86_400 * 1_000_000

steps = st.integers(1, 200).flatmap(lambda step: st.tuples(st.just(step), st.integers(0, step - 1)))
goes = st.integers(-SMOOTHED, 2_000_000) | st.integers(0, 300)
counts = st.integers(1, 1000)


class SystemClock:
    """The system clock, in microseconds."""

    def __init__(self) -> None:
        self.now = 100 * SMOOTHED

    def __call__(self) -> int:
        return self.now * 1000


@given(steps, st.lists(st.tuples(goes, counts)))
def test_times_ascend_are_of_the_process_and_the_earliest_possible(
    step: tuple[int, int], requests: list[tuple[int, int]]
) -> None:
    system, (size, offset) = SystemClock(), step
    clock, last = Clock(size, offset, system), -1
    for goes_by, count in requests:
        system.now += goes_by
        first = clock.read()
        clock.take(first, count)
        assert first > last
        assert first % size == offset
        assert system.now <= first < max(system.now, last + 1) + size
        last = first + (count - 1) * size


@given(st.lists(st.integers(0, 5)))
def test_a_time_that_is_read_is_taken(goes_by: list[int]) -> None:
    system = SystemClock()
    clock, given_out = Clock(2, 0, system), []
    for microseconds in goes_by:
        system.now += microseconds
        given_out.append(clock.read())
    assert given_out == sorted(set(given_out))


def test_no_time_is_returned_twice_while_the_clock_runs_ahead() -> None:
    clock = Clock(128, 0, SystemClock())
    last = 0
    for _ in range(100):
        first = clock.read()
        assert first > last
        clock.take(first, 10_000)
        last = first + 9_999 * 128


def test_a_corrected_clock_is_followed_after_a_large_step_back() -> None:
    system = SystemClock()
    clock = Clock(1, 0, system)
    system.now += YEAR_US
    clock.read()
    system.now -= YEAR_US
    assert clock.read() == system.now


def test_a_small_step_back_is_smoothed() -> None:
    system = SystemClock()
    clock = Clock(1, 0, system)
    first = clock.read()
    system.now -= SMOOTHED // 2
    assert clock.read() == first + 1


@given(st.integers(1, 64), st.integers(0, 64))
def test_processes_never_share_a_time(staying: int, leaving: int) -> None:
    clocks = [Share(number, staying).clock() for number in range(1, staying + 1)]
    clocks += [draining_clock(position, leaving) for position in range(leaving)]
    clocks.append(receipt_clock())
    for (one, at), (other, instead) in combinations([(clock.step, clock.read()) for clock in clocks], 2):
        assert (at - instead) % gcd(one, other) != 0, "they would meet"
