"""The lowest speed of the reader of a stream."""

import pytest

from query_api.readings.formats.exports import READERS, Pace


def test_a_reader_that_keeps_pace_has_the_full_time() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.taken(READERS.slowest, 1.0)
    assert pace.left_s == READERS.standstill_s


def test_the_time_of_a_reader_that_falls_behind_decreases() -> None:
    pace = Pace()
    for _ in range(20):
        pace.taken(READERS.slowest // 2, 2.0)
    assert pace.left_s == pytest.approx(READERS.standstill_s - 20 * 1.5)


def test_fast_reading_saves_up_no_time() -> None:
    pace = Pace()
    pace.taken(10_000 * READERS.slowest, 0.0)
    assert pace.left_s == READERS.standstill_s


def test_a_late_reader_can_catch_up() -> None:
    pace = Pace()
    pace.taken(0, READERS.standstill_s - 1)
    assert pace.left_s == pytest.approx(1)
    pace.taken(10 * READERS.slowest, 1)
    assert pace.left_s == pytest.approx(10)
