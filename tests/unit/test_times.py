"""Times and periods in requests."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.calendar.period import Period
from query_api.web.answers.problems import INVALID_VALUE, REVERSED_PERIOD, Refused
from query_api.web.requests.times import in_utc, parse_moment, provide_period

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def parse(text: str) -> datetime:
    """Parse a time, with dates in UTC."""
    return parse_moment(text, ZoneInfo("UTC"), whole_day=False)


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
    ],
)
def test_forms_of_a_time(text: str, moment: datetime) -> None:
    assert parse(text) == moment
    assert parse(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "now", "2026-02-30", "2026-01-31T25:00:00Z", "12:00", "2026-W05-6", "1e400"])
def test_an_invalid_time_is_refused_with_the_expected_form(text: str) -> None:
    with pytest.raises(ValueError, match="expected RFC 3339"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("20261024", "a date written as a number: write 2026-10-24"),
        ("1769860800000", "milliseconds since 1970: write seconds, 1769860800"),
        ("0", "a clock that is not set"), ("-1", "a time before 1970"),
        ("nan", "not a number of seconds"), ("inf", "not a number of seconds"),
    ],
)  # fmt: skip
def test_an_implausible_number_is_refused_with_its_likely_meaning(text: str, looks: str) -> None:
    for name in ("start", "end"):
        with pytest.raises(Refused) as raised:
            provide_period(**{name: text})
        assert raised.value.problem is INVALID_VALUE
        assert looks in raised.value.detail


@pytest.mark.parametrize(
    ("zone", "start", "end"),
    [
        ("UTC", "2026-03-29T00:00:00Z", "2026-03-29T23:59:59.999999Z"),
        ("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59.999999Z"),  # 23 hours
        ("America/New_York", "2026-03-29T04:00:00Z", "2026-03-30T03:59:59.999999Z"),
        ("Africa/Cairo", "2026-03-28T22:00:00Z", "2026-03-29T21:59:59.999999Z"),
    ],
)
def test_a_date_is_a_whole_day_in_the_timezone(zone: str, start: str, end: str) -> None:
    expected = Period(datetime.fromisoformat(start), datetime.fromisoformat(end))
    assert provide_period("2026-03-29", "2026-03-29", zone) == expected


def test_a_day_whose_midnight_is_skipped_begins_after_the_gap() -> None:
    """In Cairo the clock goes from 0 to 1 on 24 April 2026: that day begins at 1."""
    day, before = (provide_period(date, date, "Africa/Cairo") for date in ("2026-04-24", "2026-04-23"))
    assert day.start == datetime(2026, 4, 23, 22, tzinfo=UTC)
    assert before.end == day.start - timedelta(microseconds=1)


def test_a_time_without_an_offset_is_utc_in_every_timezone() -> None:
    assert provide_period("2026-01-31T12:00:00", None, "Asia/Tokyo").start == NOON


@given(st.dates(), st.sampled_from(["UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Apia", "Africa/Cairo"]))
def test_any_date_ends_where_the_next_one_begins(day: date, zone: str) -> None:
    if day.year in (1, 9999) or (zone, day.year) == ("Pacific/Apia", 2011):  # it left out 30 December
        return
    period = provide_period(day.isoformat(), day.isoformat(), zone)
    following = provide_period((day + timedelta(days=1)).isoformat(), None, zone)
    assert period.end is not None
    assert following.start == period.end + timedelta(microseconds=1)


def test_an_unknown_timezone_is_refused() -> None:
    with pytest.raises(Refused) as raised:
        provide_period("2026-01-31", None, "CEST")
    assert [fault.field for fault in raised.value.errors] == ["timezone"]


@given(st.text(max_size=40))
def test_any_text_is_a_time_in_utc_or_a_value_error(text: str) -> None:
    try:
        moment = parse(text)
    except ValueError:
        return
    assert moment.tzinfo is UTC


@given(st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))))
def test_a_time_in_any_offset_is_unchanged_or_out_of_range(moment: datetime) -> None:
    try:
        assert in_utc(moment) == moment
    except ValueError:
        assert moment.year in (1, 9999)
    else:
        assert parse(moment.isoformat()) == moment


def test_omitted_bounds_leave_the_period_open() -> None:
    assert provide_period() == Period(None, None)
    assert provide_period(end="2026-01-31T12:00:00") == Period(None, NOON)
    assert provide_period("2026-01-31T12:00:00", "2026-01-31T12:00:00") == Period(NOON, NOON)


def test_a_reversed_period_is_refused() -> None:
    with pytest.raises(Refused) as raised:
        provide_period("2026-01-31T12:00:00.000001Z", "2026-01-31T13:00:00+01:00")
    assert raised.value.problem is REVERSED_PERIOD


def test_both_wrong_bounds_are_named() -> None:
    with pytest.raises(Refused) as raised:
        provide_period("x", "y")
    assert raised.value.problem is INVALID_VALUE
    assert [fault.field for fault in raised.value.errors] == ["start", "end"]
