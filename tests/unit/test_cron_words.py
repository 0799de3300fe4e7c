"""Cron expressions in words: examples, and that the same words always mean the same times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.calendar.cron import Times
from query_api.calendar.cron_words import describe, in_words

EXAMPLES = {
    "* * * * *": "Every minute",
    "*/5 * * * *": "Every 5 minutes",
    "*/40 * * * *": "At minutes 0 and 40 of every hour",
    "*/7 * * * *": "At every 7th minute from 0 to 56 of every hour",
    "1-59/2 * * * *": "At every 2nd minute from 1 to 59 of every hour",
    "0,5,10-20 * * * *": "At minutes 0, 5 and 10 to 20 of every hour",
    "@hourly": "At minute 0 of every hour",
    "5 * * * MON": "At minute 5 of every hour, every Monday",
    "0 7 * * 1": "At 07:00 every Monday",
    "0 7 * * 7": "At 07:00 every Sunday",
    "30 7,19 * * *": "At 07:30 and 19:30 every day",
    "@daily": "At 00:00 every day",
    "@midnight": "At 00:00 every day",
    "@weekly": "At 00:00 every Sunday",
    "@monthly": "At 00:00 on day 1 of every month",
    "@yearly": "At 00:00 on day 1 of January",
    "@annually": "At 00:00 on day 1 of January",
    "0 9-17 * * mon-fri": "Every hour from 09:00 to 17:00, from Monday to Friday",
    "15 */2 * * *": "Every 2 hours from 00:15 to 22:15",
    "0 */5 * * *": "At 00:00, 05:00, 10:00, 15:00 and 20:00 every day",
    "*/15 9-17 * * 1-5": "Every 15 minutes from 09:00 to 17:45, from Monday to Friday",
    "* 9 * * *": "Every minute from 09:00 to 09:59",
    "* 9,12 * * *": "Every minute of hours 09 and 12",
    "*/15 9,12 * * *": "At minutes 0, 15, 30 and 45 of hours 09 and 12 every day",
    "10,40 8-18 * * 6,0": "At minutes 10 and 40 of hours 08 to 18 on Saturday and Sunday",
    "0 8-10,14-17 * * 1-3,5-7": (
        "At minute 0 of hours 08 to 10 and 14 to 17 on Monday to Wednesday and Friday to Sunday"
    ),
    "0 12 * 6-8 *": "At 12:00 every day in June to August",
    "0 12 * 1,7 MON": "At 12:00 every Monday in January and July",
    "0 0 1,15 * *": "At 00:00 on days 1 and 15 of every month",
    "0 0 1 JAN,JUL *": "At 00:00 on day 1 of January and July",
    "0 0 */2 * *": "At 00:00 on every 2nd day from 1 to 31 of every month",
    "0 0 13 * FRI": "At 00:00 on day 13 of every month, and also every Friday",
    "0 0 1 6 MON-WED": "At 00:00 on day 1 of June, and also from Monday to Wednesday in June",
    "0 0 */2 * FRI": "At 00:00 on every 2nd day from 1 to 31 of every month, if the day is Friday",
    "0 0 1-7 * */2": "At 00:00 on days 1 to 7 of every month, if the day is Tuesday, Thursday, Saturday or Sunday",
    "0 0 1 * 0-6": "At 00:00 every day",
    "0 0 1-31 6 MON": "At 00:00 every day in June",
    "0-59 0-23 1-31 1-12 0-7": "Every minute",
}


@pytest.mark.parametrize("expression", EXAMPLES)
def test_an_expression_in_words(expression: str) -> None:
    assert describe(expression) == EXAMPLES[expression]


def days_of(times: Times) -> set[tuple[int, int, int]]:
    """Return the month, day and weekday of each day on which the times tick."""
    either = (lambda day, weekday: day or weekday) if times.either_day else (lambda day, weekday: day and weekday)
    return {
        (month, day, weekday)
        for month in times.months
        for day in range(1, 32)
        for weekday in range(7)
        if either(day in times.days, weekday in times.weekdays)
    }


def some_of(numbers: range) -> st.SearchStrategy[frozenset[int]]:
    """Return sets that are alike: runs, steps, and such sets with a number more or less."""
    run = st.builds(
        lambda first, length, step: frozenset(numbers[first : first + length : step]),
        st.integers(0, len(numbers) - 1), st.integers(1, len(numbers)), st.integers(1, 7),
    )  # fmt: skip
    changed = st.builds(lambda some, one: some ^ {one}, run, st.sampled_from(numbers)).filter(bool)
    return st.one_of(st.just(frozenset(numbers)), run, changed)


TIMES = st.builds(
    Times,
    some_of(range(60)), some_of(range(24)), some_of(range(1, 32)), some_of(range(1, 13)), some_of(range(7)),
    st.booleans(),
)  # fmt: skip


@given(TIMES, TIMES, st.sets(st.sampled_from(Times.__struct_fields__), min_size=1))
def test_other_times_have_other_words(one: Times, other: Times, changed: set[str]) -> None:
    """Also if only some of the fields differ."""
    mixed = Times(*(getattr(other if name in changed else one, name) for name in Times.__struct_fields__))
    if in_words(one) == in_words(mixed):
        assert (one.minutes, one.hours, days_of(one)) == (mixed.minutes, mixed.hours, days_of(mixed))
