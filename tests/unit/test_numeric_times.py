"""Times that are given as numbers."""

import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.readings.model import SECOND, to_datetime
from shared.readings.rules import EARLIEST_S, LATEST_S, ImplausibleTime, from_number, looks_like

NOON = 1_769_860_800  # 2026-01-31T12:00:00Z


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (20261101, "20261101 looks like a date written as a number: write 2026-11-01"),
        (20261024.0, "20261024 looks like a date written as a number: write 2026-10-24"),
        (2026, "2026 looks like a year written as a number: write 2026-01-01"),
        (202611, "202611 looks like a year and a month written as a number: write 2026-11-01"),
        (202611011230, "202611011230 looks like a date and a time written as a number: write 2026-11-01T12:30:00Z"),
        (20261101123045, "20261101123045 looks like a date and a time written as a number: write 2026-11-01T12:30:45Z"),
        (0, "0 looks like a clock that is not set: write seconds since 1970, or RFC 3339"),
        (12.5, "12.5 looks like seconds since the device started: write seconds since 1970, or RFC 3339"),
        (20261399, "20261399 looks like seconds since the device started: write seconds since 1970, or RFC 3339"),
        (999_999_999, "999999999 looks like seconds since the device started: write seconds since 1970, or RFC 3339"),
        (NOON * 1000, "1769860800000 looks like milliseconds since 1970: write seconds, 1769860800"),
        (NOON * 1000 + 250, "1769860800250 looks like milliseconds since 1970: write seconds, 1769860800.25"),
        (NOON * 10**6, "1769860800000000 looks like microseconds since 1970: write seconds, 1769860800"),
        (float(NOON * 10**9), "1769860800000000000 looks like nanoseconds since 1970: write seconds, 1769860800"),
        (10**21, "1000000000000000000000 is too large for a number of seconds since 1970"),
        (1e300, "1e+300 is too large for a number of seconds since 1970"),
        (-1, "-1 looks like a time before 1970: write it as RFC 3339, such as 1969-07-20T20:17:40Z"),
        (math.nan, "nan is not a number of seconds since 1970"),
        (math.inf, "inf is not a number of seconds since 1970"),
    ],
)
def test_the_likely_meaning_of_a_number(number: float, words: str) -> None:
    with pytest.raises(ImplausibleTime) as raised:
        from_number(number)
    assert str(raised.value) == words


@given(st.floats() | st.integers(-(10**30), 10**30))
def test_any_number_is_a_time_or_has_a_likely_meaning(number: float) -> None:
    if EARLIEST_S <= number < LATEST_S:
        assert abs(from_number(number) - number * SECOND) <= 1
    else:
        with pytest.raises(ImplausibleTime, match=r"number|looks like"):
            from_number(number)


@given(st.integers(EARLIEST_S, NOON * 5), st.sampled_from([10**3, 10**6, 10**9]))
def test_the_value_in_seconds_for_another_unit_is_correct(seconds: int, units: int) -> None:
    words = looks_like(seconds * units)
    if "seconds since 1970" in words:  # else its digits are those of a date
        assert float(words.rpartition(" ")[2]) == seconds


@given(st.dates(date(1970, 1, 1), date(2199, 12, 31)))
def test_each_date_written_as_a_number_has_its_rfc_3339_form(day: date) -> None:
    assert looks_like(int(f"{day:%Y%m%d}")).endswith(f"write {day.isoformat()}")


@given(st.integers(EARLIEST_S, LATEST_S - 1))
def test_whole_seconds_are_exact(seconds: int) -> None:
    assert from_number(seconds) == seconds * SECOND
    assert to_datetime(from_number(seconds)).timestamp() == seconds
