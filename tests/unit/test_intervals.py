"""Edges of calendar intervals, in timezones with repeated and skipped midnights."""

import random
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from query_api.calendar.intervals import PATTERN, Interval, edges, in_zone

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia",
    "America/Havana", "Atlantic/Azores", "America/Santiago", "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut",
    "Africa/Monrovia", "Pacific/Kwajalein", "America/Nuuk", "Antarctica/Troll",
]  # fmt: skip


def local(*moment: int, zone: ZoneInfo = BERLIN, fold: int = 0) -> datetime:
    return datetime(*moment, tzinfo=zone, fold=fold).astimezone(UTC)  # type: ignore[misc,arg-type]


def begins(text: str, moment: datetime, zone: ZoneInfo = BERLIN, count: int = 2) -> list[datetime]:
    return edges(Interval.parse(text), zone, moment, moment + timedelta(days=100_000), count)[:count]


def test_units_of_the_calendar() -> None:
    moment = local(2026, 8, 20, 15, 30)
    for text, first, second in (
        ("P1D", (2026, 8, 20), (2026, 8, 21)),
        ("P2D", (2026, 8, 20), (2026, 8, 22)),
        ("P1W", (2026, 8, 17), (2026, 8, 24)),
        ("P7D", (2026, 8, 17), (2026, 8, 24)),
        ("P1M", (2026, 8, 1), (2026, 9, 1)),
        ("P3M", (2026, 7, 1), (2026, 10, 1)),
        ("P6M", (2026, 7, 1), (2027, 1, 1)),
        ("P12M", (2026, 1, 1), (2027, 1, 1)),
        ("P1Y", (2026, 1, 1), (2027, 1, 1)),
        ("P10Y", (2020, 1, 1), (2030, 1, 1)),
        ("PT1H", (2026, 8, 20), (2026, 8, 21)),
    ):
        assert begins(text, moment) == [local(*first), local(*second)], text
    assert begins("P1W", local(2026, 8, 17))[0] == local(2026, 8, 17)
    assert begins("P1W", local(2026, 8, 17) - timedelta(microseconds=1))[0] == local(2026, 8, 10)
    assert begins("P1M", local(1971, 3, 31))[0] == local(1971, 3, 1)


def test_a_day_on_which_the_clocks_change() -> None:
    spring, autumn = begins("P1D", local(2026, 3, 29, 12)), begins("P1D", local(2026, 10, 25, 12))
    assert spring[1] - spring[0] == timedelta(hours=23)
    assert autumn[1] - autumn[0] == timedelta(hours=25)


def test_a_repeated_or_skipped_midnight() -> None:
    havana, sao_paulo, apia = ZoneInfo("America/Havana"), ZoneInfo("America/Sao_Paulo"), ZoneInfo("Pacific/Apia")
    day = begins("P1D", local(2025, 11, 2, 0, 30, zone=havana), havana)  # at 1 the clock is put back to midnight
    assert [edge.isoformat() for edge in day] == ["2025-11-02T04:00:00+00:00", "2025-11-03T05:00:00+00:00"]
    day = begins("P1D", local(2018, 11, 4, 12, zone=sao_paulo), sao_paulo)  # at midnight it is put on to 1
    assert [edge.isoformat() for edge in day] == ["2018-11-04T03:00:00+00:00", "2018-11-05T02:00:00+00:00"]
    days = begins("P1D", local(2011, 12, 29, 12, zone=apia), apia, 3)  # the 30th was left out
    assert [in_zone(day, apia).day for day in days] == [29, 31, 1]


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("text", ["P1D", "P3D", "P1W", "P1M", "P5M", "P1Y"])
def test_every_moment_is_in_one_interval_that_begins_at_midnight(name: str, text: str) -> None:
    zone, dice = ZoneInfo(name), random.Random(f"{name} {text}")
    interval = Interval.parse(text)
    for _ in range(40):
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=dice.randrange(60 * 365 * 86_400))
        found = edges(interval, zone, moment, moment + timedelta(days=200), 10**6)
        assert found[0] <= moment < found[1]
        assert found[-1] > moment + timedelta(days=200)
        assert all(before < after for before, after in pairwise(found))
        for edge in found:
            before = (edge - timedelta(microseconds=1)).astimezone(zone).replace(tzinfo=None)
            assert interval.number(edge.astimezone(zone).replace(tzinfo=None)) != interval.number(before)


def test_the_number_of_intervals_is_limited() -> None:
    assert len(edges(Interval.parse("P1D"), BERLIN, local(2020, 1, 1), local(2026, 1, 1), 10)) == 11


def test_only_texts_that_match_the_pattern_are_intervals() -> None:
    good = ["P1Y", "P99Y", "P1M", "P999M", "P52W", "P1D", "P999D", "PT1H", "PT24H", "PT90M", "PT1S", "PT9999S"]
    bad = [
        "", "P", "PT", "P0D", "P01D", "PT0S", "PT25H", "PT1000M", "P100Y", "P1000D", "P1Y2M", "PT1H30M", "p1d", "P1D ",
        "P1D\n", "1D", "PT1D", "P1H", "P1.5D", "P-1D", "-P1D", "P\u0661D", "hour", "P1D\0", "\ud800",
        "P" + "9" * 5000 + "D",
    ]  # fmt: skip
    for text in good:
        assert re.search(PATTERN, text)
        assert Interval.parse(text)
    for text in bad:
        with pytest.raises(ValueError, match="PT1H"):
            Interval.parse(text)


def test_an_interval_at_the_ends_of_the_calendar() -> None:
    early, late = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
    for text in ("P99Y", "P999M", "P999W", "P1D"):
        for moment in (early, late):
            found = edges(Interval.parse(text), ZoneInfo("UTC"), moment, moment + timedelta(hours=1), 10)
            assert found[0] <= moment < found[1]


def test_an_offset_with_seconds_is_shown_in_utc() -> None:
    moment = datetime(1970, 6, 1, tzinfo=UTC)  # Monrovia was 44 minutes and 30 seconds behind
    assert in_zone(moment, ZoneInfo("Africa/Monrovia")).isoformat() == "1970-06-01T00:00:00+00:00"
    assert in_zone(moment, BERLIN).isoformat() == "1970-06-01T01:00:00+01:00"
