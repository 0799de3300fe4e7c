"""Sliding periods of ticks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.calendar.cron import Cron
from query_api.calendar.durations import Duration, parse_duration
from query_api.calendar.sliding import period_before

BERLIN = ZoneInfo("Europe/Berlin")
MICROSECOND = timedelta(microseconds=1)


def look(tick: str, length: str, align: bool = True, zone: ZoneInfo = BERLIN) -> tuple[str, str]:
    """Return the start and the end of the period as wall-clock times."""
    period = period_before(datetime.fromisoformat(tick), parse_duration(length), align, zone)
    assert period.start is not None
    assert period.end is not None
    assert (period.start.tzinfo, period.end.tzinfo) == (UTC, UTC)
    ends = period.end + MICROSECOND
    return period.start.astimezone(zone).isoformat(), ends.astimezone(zone).isoformat()


ALIGNED = [
    ("2026-01-15T02:00:00+01:00", "P1D", "2026-01-14T00:00:00+01:00", "2026-01-15T00:00:00+01:00"),
    ("2026-01-15T00:00:00+01:00", "P1D", "2026-01-14T00:00:00+01:00", "2026-01-15T00:00:00+01:00"),
    ("2026-01-15T00:30:00+01:00", "P1D", "2026-01-14T00:00:00+01:00", "2026-01-15T00:00:00+01:00"),
    ("2026-03-30T02:00:00+02:00", "P1D", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),  # 23 hours
    ("2026-10-26T02:00:00+01:00", "P1D", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),  # 25 hours
    ("2026-03-18T02:00:00+01:00", "P1W", "2026-03-09T00:00:00+01:00", "2026-03-16T00:00:00+01:00"),
    ("2026-03-18T02:00:00+01:00", "P7D", "2026-03-11T00:00:00+01:00", "2026-03-18T00:00:00+01:00"),
    ("2026-03-31T02:00:00+02:00", "P1M", "2026-02-01T00:00:00+01:00", "2026-03-01T00:00:00+01:00"),
    ("2026-05-01T00:00:00+02:00", "P3M", "2026-02-01T00:00:00+01:00", "2026-05-01T00:00:00+02:00"),
    ("2026-05-01T00:00:00+02:00", "P1Y", "2025-01-01T00:00:00+01:00", "2026-01-01T00:00:00+01:00"),
    ("2026-05-01T10:25:00+02:00", "PT1H", "2026-05-01T09:00:00+02:00", "2026-05-01T10:00:00+02:00"),
    ("2026-05-01T10:25:30+02:00", "PT15M", "2026-05-01T10:10:00+02:00", "2026-05-01T10:25:00+02:00"),
    ("2026-05-01T10:25:30+02:00", "P1DT12H", "2026-04-29T22:00:00+02:00", "2026-05-01T10:00:00+02:00"),
    # The second of the two hours from 2 to 3: the one before it is the first of them.
    ("2026-10-25T02:10:00+01:00", "PT1H", "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"),
]  # fmt: skip


@pytest.mark.parametrize(("tick", "length", "start", "ends"), ALIGNED)
def test_an_aligned_period_is_the_last_whole_unit(tick: str, length: str, start: str, ends: str) -> None:
    assert look(tick, length) == (start, ends)


SLIDING = [
    ("2026-01-15T02:00:00+01:00", "P1D", "2026-01-14T02:00:00+01:00"),
    ("2026-03-29T12:00:00+02:00", "P1D", "2026-03-28T12:00:00+01:00"),
    ("2026-03-29T12:00:00+02:00", "PT24H", "2026-03-28T11:00:00+01:00"),
    ("2026-03-31T12:00:00+02:00", "P1M", "2026-02-28T12:00:00+01:00"),
    ("2028-02-29T12:00:00+01:00", "P1Y", "2027-02-28T12:00:00+01:00"),
    ("2026-01-15T02:00:00+01:00", "P13M", "2024-12-15T02:00:00+01:00"),
    ("2026-01-15T02:00:00+01:00", "PT90S", "2026-01-15T01:58:30+01:00"),
    ("2026-10-25T02:10:00+01:00", "PT5M", "2026-10-25T02:05:00+01:00"),
]


@pytest.mark.parametrize(("tick", "length", "start"), SLIDING)
def test_a_period_that_is_not_aligned_ends_at_the_tick(tick: str, length: str, start: str) -> None:
    assert look(tick, length, align=False) == (start, tick)


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize(
    ("cron", "length"), [("0 2 * * *", "P1D"), ("@weekly", "P1W"), ("@monthly", "P1M"), ("@hourly", "PT1H")]
)
def test_the_periods_of_a_year_of_ticks_meet_and_never_overlap(name: str, cron: str, length: str) -> None:
    zone, count = ZoneInfo(name), 400
    ticks, tick = Cron(cron, zone), datetime(2026, 3, 20, tzinfo=UTC)
    earlier = None
    for _ in range(count):
        tick = ticks.after(tick)
        period = period_before(tick, parse_duration(length), True, zone)
        assert period.start is not None
        assert period.end is not None
        assert period.start < period.end < tick
        assert (
            earlier is None
            or period.start == earlier + MICROSECOND
            or (name, length) == ("Australia/Lord_Howe", "PT1H")
        )
        earlier = period.end


@pytest.mark.parametrize(
    "text",
    [
        "", "P", "PT", "P1", "1D", "P1H", "PT1D", "P-1D", "P1.5D", "P1W2D", "P1DT", "PT0S", "P0D", "P0Y0D", "p1d",
        "P1D ", "P101Y", "P36526D", "P\u0661D", "P1D\0", "P" + "9" * 30 + "Y", "P" + "9" * 5000 + "D", "the day before",
    ],
)  # fmt: skip
def test_an_invalid_duration_is_refused_with_the_expected_form(text: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        parse_duration(text)


def test_a_century_is_one() -> None:
    assert parse_duration("P100Y") == Duration(years=100)
    assert parse_duration("P1Y2M3DT4H5M6S") == Duration(1, 2, None, 3, 4, 5, 6)


@given(st.text("P0123456789YMWDTHS", max_size=20), st.booleans())
def test_any_duration_is_a_period_that_ends_before_the_tick(text: str, align: bool) -> None:
    try:
        length = parse_duration(text)
    except ValueError:
        return
    tick = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    period = period_before(tick, length, align, BERLIN)
    assert period.start is not None
    assert period.end is not None
    assert period.start <= period.end < tick
