"""Cron expressions, compared with an oracle that steps minute by minute, and invalid expressions."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from query_api.calendar.cron import MAX_LENGTH, Cron
from query_api.calendar.zones import first_shown

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = timedelta(minutes=1)
SPRING, AUTUMN = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)


def ticks(expression: str, start: datetime, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    cron, seen = Cron(expression, zone), []
    for _ in range(count):
        start = cron.after(start)
        assert start.tzinfo is UTC
        seen.append(start.astimezone(zone).isoformat(timespec="minutes"))
    return seen


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def weekdays(text: str) -> str:
    """Return the days of a week, Sunday first, on which the expression ticks."""
    cron, sunday = Cron(f"0 12 * * {text}", ZoneInfo("UTC")), at("2026-03-01")
    return "".join(str(n) for n in range(7) if (cron.after(sunday + timedelta(days=n)) - sunday).days == n)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0", "0"), ("7", "0"), ("SUN", "0"), ("1", "1"), ("6", "6"), ("1-5", "12345"), ("mon-fri", "12345"),
        ("0,6", "06"), ("5-7", "056"), ("fri-sun", "056"), ("0-7", "0123456"), ("*/2", "0246"), ("1-5/2", "135"),
        ("sun-tue", "012"), ("*", "0123456"), ("2,2,TUE", "2"), ("0-6/3", "036"), ("*/7", "0"),
    ],
)  # fmt: skip
def test_days_of_the_week_are_counted_from_sunday(text: str, days: str) -> None:
    assert weekdays(text) == days


def test_either_day_matches_if_both_are_restricted() -> None:
    friday_or_13th = ["2026-03-06", "2026-03-13", "2026-03-20", "2026-03-27", "2026-04-03", "2026-04-10", "2026-04-13"]
    assert [tick[:10] for tick in ticks("0 0 13 * FRI", at("2026-03-01"), 7)] == friday_or_13th
    both = ticks("0 0 */2 * FRI", at("2026-03-01"), 3)  # one starts with *: both must fit
    assert [tick[:10] for tick in both] == ["2026-03-13", "2026-03-27", "2026-04-03"]


def test_the_shorthands() -> None:
    start = at("2026-03-04T05:06")
    expected = {
        "@hourly": "2026-03-04T06:00", "@daily": "2026-03-05T00:00", "@midnight": "2026-03-05T00:00",
        "@weekly": "2026-03-08T00:00", "@monthly": "2026-04-01T00:00", "@yearly": "2027-01-01T00:00",
        "@annually": "2027-01-01T00:00", "@DAILY": "2026-03-05T00:00",
    }  # fmt: skip
    for shorthand, first in expected.items():
        assert ticks(shorthand, start, 1, ZoneInfo("UTC")) == [f"{first}+00:00"]


def test_a_leap_day_ticks_once_in_four_years() -> None:
    assert ticks("0 0 29 2 *", at("2026-01-01"), 2) == ["2028-02-29T00:00+01:00", "2032-02-29T00:00+01:00"]


def test_ticks_in_a_skipped_hour_run_once_at_its_end() -> None:
    for expression in ("30 2 * * *", "*/15 2 * * *", "0 2,3 * * *"):
        assert ticks(expression, SPRING, 1) == ["2026-03-29T03:00+02:00"]
        assert ticks(expression, SPRING, 2)[1].startswith("2026-03-30T02:")
    assert ticks("30 2,3 * * *", SPRING, 2) == ["2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"]
    assert ticks("30 * * * *", SPRING, 2) == ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"]
    assert ticks("@daily", at("2026-09-05T12:00"), 1, ZoneInfo("America/Santiago")) == ["2026-09-06T01:00-03:00"]


def test_ticks_in_a_repeated_hour_run_the_first_time() -> None:
    assert ticks("30 2 * * *", AUTUMN, 2) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    assert ticks("30 2 * * *", AUTUMN + timedelta(minutes=75), 1) == ["2026-10-26T02:30+01:00"]
    assert ticks("30 * * * *", AUTUMN, 3) == [
        "2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-25T03:30+01:00",
    ]  # fmt: skip


# An oracle.


def _field(least: int, most: int) -> st.SearchStrategy[tuple[str, set[int]]]:
    """The text of a field, with its numbers."""
    numbers = st.integers(least, most)
    step = st.integers(1, max(1, most // 2))
    one = numbers.map(lambda n: (str(n), {n}))
    spans = st.tuples(numbers, numbers, step).map(sorted_span)
    whole = st.just(("*", set(range(least, most + 1))))
    stepped = step.map(lambda n: (f"*/{n}", set(range(least, most + 1, n))))
    lists = st.lists(one | spans, min_size=1, max_size=3).map(
        lambda parts: (",".join(text for text, _ in parts), set().union(*(named for _, named in parts)))
    )
    return whole | stepped | lists


def sorted_span(span: tuple[int, int, int]) -> tuple[str, set[int]]:
    first, last, step = min(span[:2]), max(span[:2]), span[2]
    return (f"{first}-{last}/{step}", set(range(first, last + 1, step)))


FIELDS = st.tuples(_field(0, 59), _field(0, 23), _field(1, 31), _field(1, 12), _field(0, 6))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Asia/Kolkata"])
CHANGES = [
    SPRING, AUTUMN, at("2026-04-05T03:00"), at("2026-09-06T03:00"),
    at("2026-04-04T14:30"), at("2026-10-03T15:00"), at("2027-12-31T20:00"),
]  # fmt: skip


def fits(wall: datetime, fields: tuple[tuple[str, set[int]], ...]) -> bool:
    minute, hour, day, month, weekday = (named for _, named in fields)
    days = (wall.day in day, wall.isoweekday() % 7 in weekday)
    either = fields[2][0][0] != "*" and fields[4][0][0] != "*"
    day_fits = any(days) if either else all(days)
    return wall.minute in minute and wall.hour in hour and wall.month in month and day_fits


Fields = tuple[tuple[str, set[int]], ...]


def naive_ticks(start: datetime, minutes: int, fields: Fields, zone: ZoneInfo) -> list[datetime]:
    """Yield ticks as a cron daemon runs them: it checks the clock each minute, and the minutes since the last check."""
    every_hour, seen = len(fields[1][1]) == 24, []
    farthest = (start - 180 * MINUTE).astimezone(zone).replace(tzinfo=None)
    for n in range(-180, minutes + 1):
        moment = start + n * MINUTE
        wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        passed = [wall] if every_hour else []
        while not every_hour and farthest < wall:
            farthest += MINUTE
            passed.append(farthest)
        if n > 0 and any(fits(shown, fields) for shown in passed):
            seen.append(moment)
    return seen


@settings(max_examples=60)
@given(FIELDS, ZONES, st.sampled_from(CHANGES), st.integers(-600, 600))
@example((("0", {0}), ("*", set(range(24))), ("*", set(range(1, 32))), ("*", set(range(1, 13))), ("1", {1})),
         "Europe/Berlin", SPRING, -60)  # fmt: skip
@example((("42", {42}), ("*", set(range(24))), ("*", set(range(1, 32))), ("*", set(range(1, 13))), ("6", {6})),
         "Australia/Lord_Howe", at("2026-04-04T14:30"), 0)  # fmt: skip
@example((("30", {30}), ("2", {2}), ("*", set(range(1, 32))), ("*", set(range(1, 13))), ("*", set(range(7)))),
         "Europe/Berlin", SPRING, 30)  # fmt: skip
def test_ticks_equal_those_of_a_daemon_that_checks_each_minute(
    fields: tuple[tuple[str, set[int]], ...], name: str, change: datetime, offset: int
) -> None:
    zone, start, minutes = ZoneInfo(name), change + offset * MINUTE, 1500
    assume(fields[4][0][0] != "*" or min(fields[2][1]) < 29)  # it may never tick
    cron = Cron(" ".join(text for text, _ in fields), zone)
    expected = naive_ticks(start, minutes, fields, zone)
    seen, tick = [], cron.after(start)
    while tick <= start + minutes * MINUTE and len(seen) < 50:
        seen.append(tick)
        tick = cron.after(tick)
    assert seen == expected[:50]
    if expected:
        end = start + minutes * MINUTE
        assert cron.latest(expected[0], end) == expected[-1]
        assert cron.latest(expected[0], expected[0]) == expected[0]


def test_the_latest_of_years_of_ticks_is_found_in_a_few_steps() -> None:
    now = at("2026-01-01T00:00:30")
    assert Cron("* * * * *", BERLIN).latest(at("2000-01-01"), now) == at("2026-01-01")


@given(ZONES, st.datetimes(at("2000-01-01").replace(tzinfo=None), at("2030-01-01").replace(tzinfo=None)))
def test_the_first_moment_at_which_clocks_show_a_time(name: str, wall: datetime) -> None:
    zone = ZoneInfo(name)
    wall = wall.replace(microsecond=0)
    moment = first_shown(wall, zone)
    shown = moment.astimezone(zone).replace(tzinfo=None, fold=0)
    before = (moment - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None, fold=0)
    assert before < wall <= shown
    assert shown == wall or shown - before > timedelta(minutes=29)  # it was skipped


# What is none.

WRONG = {
    "": "0 of the five fields", " \t": "0 of the five fields", "0 2 * *": "4 of the five fields",
    "0 0 2 * * *": "6 of the five fields", "@reboot": "none of @yearly", "60 * * * *": "minute takes 0 to 59",
    "* 24 * * *": "hour takes 0 to 23", "* * 0 * *": "day of month takes 1 to 31",
    "* * * 13 *": "month takes 1 to 12 or JAN to DEC", "* * * JANUARY *": "month takes", "* * * * 8": "SUN to SAT",
    "* * * * MO": "day of week takes", "5-1 * * * *": "ends before it starts", "*/0 * * * *": "from 1 to 59",
    "*/60 * * * *": "from 1 to 59", "5/10 * * * *": "such as 5-59", "1,,2 * * * *": "not ''", "L * * * *": "not 'L'",
    "-1 * * * *": "not '-1'", "1.5 * * * *": "minute takes", "0 0 30 2 *": "never ticks", "0 0 31 4,6,9 *": "never",
    "\0 * * * *": "minute takes", "\u0661 * * * *": "minute takes", f"{'9' * 150} * * * *": "minute takes",
    f"*/{'9' * 150} * * * *": "from 1 to 59", "0 0 ? * *": "not '?'", "0 0 * * 5#2": "not '5#2'",
}  # fmt: skip


@pytest.mark.parametrize(("expression", "reason"), WRONG.items())
def test_an_invalid_expression_is_refused_with_its_fault(expression: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        Cron(expression, BERLIN)


@given(st.text(max_size=MAX_LENGTH) | st.text("0123456789*/-, JANSUN@", max_size=40))
def test_any_text_ticks_or_is_a_value_error(text: str) -> None:
    try:
        cron = Cron(text, BERLIN)
    except ValueError:
        return
    assert cron.after(SPRING) > SPRING


def test_a_day_that_none_of_the_months_has_is_ignored_beside_a_weekday() -> None:
    cron = Cron("0 0 31 2,4 MON", ZoneInfo("UTC"))
    moment, ticks = datetime(2026, 2, 1, tzinfo=UTC), []
    for _ in range(200):
        moment = cron.after(moment)
        ticks.append(moment)
    assert {tick.weekday() for tick in ticks} == {0}
    assert {tick.month for tick in ticks} == {2, 4}
