"""Moments and periods, as requests have them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.http.problems import INVALID_VALUE, REVERSED_PERIOD, Refused
from query_api.http.times import Period, from_seconds, in_utc, parse_moment, provide_period

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31T12:00:00", NOON),
        ("2026-01-31 12:00:00", NOON),
        ("2026-01-31T13:00:00+01:00", NOON),
        ("2026-01-31T13:00:00 01:00", NOON),
        ("2026-01-31T12:00:00.25Z", NOON + timedelta(milliseconds=250)),
        ("1769860800", NOON),
        ("1769860800.25", NOON + timedelta(milliseconds=250)),
        ("2026-01-31", NOON - timedelta(hours=12)),
        ("-1", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_forms_of_a_moment(text: str, moment: datetime) -> None:
    assert parse_moment(text) == moment
    assert parse_moment(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "now", "2026-02-30", "2026-01-31T25:00:00Z", "12:00", "1e400", "nan", "inf"])
def test_what_is_no_moment_is_shown_with_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|years 1 to 9999"):
        parse_moment(text)


@given(st.text(max_size=40))
def test_any_text_is_a_moment_in_utc_or_a_value_error(text: str) -> None:
    try:
        moment = parse_moment(text)
    except ValueError:
        return
    assert moment.tzinfo is UTC


@given(st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))))
def test_a_moment_in_any_offset_is_itself_or_out_of_range(moment: datetime) -> None:
    try:
        assert in_utc(moment) == moment
    except ValueError:
        assert moment.year in (1, 9999)
    else:
        assert parse_moment(moment.isoformat()) == moment


@given(st.floats())
def test_any_number_of_seconds_is_a_moment_or_a_value_error(seconds: float) -> None:
    try:
        moment = from_seconds(seconds)
    except ValueError:
        assert not -6e10 < seconds < 2.5e11
    else:
        assert abs(moment.timestamp() - seconds) < 1e-4


def test_the_period_is_open_where_nothing_is_given() -> None:
    assert provide_period() == Period(None, None)
    assert provide_period(end="2026-01-31T12:00:00") == Period(None, NOON)
    assert provide_period("2026-01-31T12:00:00", "2026-01-31T12:00:00") == Period(NOON, NOON)


def test_a_reversed_period_is_refused() -> None:
    with pytest.raises(Refused) as raised:
        provide_period("2026-01-31T12:00:00.000001Z", "2026-01-31T13:00:00+01:00")
    assert raised.value.problem is REVERSED_PERIOD


def test_both_bounds_are_named_where_both_are_wrong() -> None:
    with pytest.raises(Refused) as raised:
        provide_period("x", "y")
    assert raised.value.problem is INVALID_VALUE
    assert [fault.field for fault in raised.value.errors] == ["start", "end"]
