"""A cron expression in words: "At 07:00 from Monday to Friday".

The words are made of the numbers that the fields name, and not of their text: `*/40`, which ticks at minutes 0 and 40,
is not "every 40 minutes", and `0-59` is `*`. So expressions with the same words tick at the same times, except where
the clocks change (ADR 49).
"""

from collections.abc import Callable, Iterable, Sequence, Set
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from query_api.calendar.cron import Cron, Times

_MINUTES, _HOURS, _DAYS, _MONTHS = range(60), range(24), range(1, 32), range(1, 13)
_WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_YEAR = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_MOST_CLOCKS = 6
"""Times of a day, or numbers with equal distances, that are listed."""
_SUFFIXES = {2: "nd", 3: "rd"}
"""Of ordinal numbers up to 10; the others have "th"."""


@lru_cache(maxsize=4096)
def describe(expression: str) -> str:
    """Return an expression in words, in the time zone of its schedule. Raises ValueError as Cron does."""
    return in_words(Cron(expression, ZoneInfo("UTC")).times)


def in_words(times: Times) -> str:
    """Return the times in words."""
    clock, day = _clock(times.minutes, times.hours), _day(times)
    if not day:
        return clock if clock.startswith("Every") or clock.endswith("every hour") else f"{clock} every day"
    return f"{clock}{',' if ' from ' in clock or clock.endswith('every hour') else ''} {day}"


def _clock(minutes: Set[int], hours: Set[int]) -> str:
    if len(minutes) * len(hours) <= _MOST_CLOCKS:
        return f"At {_listed([f'{hour:02}:{minute:02}' for hour in sorted(hours) for minute in sorted(minutes)])}"
    step = _step(minutes)
    if len(hours) == len(_HOURS):
        return f"Every {_count(step, 'minute')}" if step else f"At {_named('minute', minutes)} of every hour"
    if step and _is_run(hours):
        return f"Every {_count(step, 'minute')} {_between(min(hours), 0, max(hours), max(minutes))}"
    if len(minutes) == 1 and (distance := _distance(sorted(hours))):
        (minute,) = minutes
        return f"Every {_count(distance, 'hour')} {_between(min(hours), minute, max(hours), minute)}"
    of_hours = _named("hour", hours, "{:02}".format)
    return f"Every minute of {of_hours}" if step == 1 else f"At {_named('minute', minutes)} of {of_hours}"


def _between(hour: int, minute: int, last_hour: int, last_minute: int) -> str:
    return f"from {hour:02}:{minute:02} to {last_hour:02}:{last_minute:02}"


def _step(minutes: Set[int]) -> int:
    """Return the number of minutes from each tick to the next, also across hours; 0 if they differ, or for one tick."""
    if len(minutes) == 1:
        return 0
    step = len(_MINUTES) // len(minutes)
    return step if minutes == set(_MINUTES[::step]) and len(_MINUTES) % step == 0 else 0


def _distance(numbers: Sequence[int]) -> int:
    """Return the distance of all neighbours; 0 if it differs."""
    distances = {after - before for before, after in pairwise(numbers)}
    return distances.pop() if len(distances) == 1 else 0


def _is_run(numbers: Set[int]) -> bool:
    return max(numbers) - min(numbers) + 1 == len(numbers)


def _day(times: Times) -> str:
    """Return the days in words; an empty text for every day."""
    months = "" if len(times.months) == len(_MONTHS) else _ranges(times.months, lambda month: _YEAR[month - 1])
    all_days, all_weekdays = len(times.days) == len(_DAYS), len(times.weekdays) == len(_WEEK)
    if (all_days and all_weekdays) or (times.either_day and (all_days or all_weekdays)):
        return f"every day in {months}" if months else ""
    days = f"{_named('day', times.days)} of {months or 'every month'}"
    if all_weekdays:
        return f"on {days}"
    if all_days:
        return _weekdays(times.weekdays) + (f" in {months}" if months else "")
    if times.either_day:
        return f"on {days}, and also {_weekdays(times.weekdays)}" + (f" in {months}" if months else "")
    return f"on {days}, if the day is {_weekday_ranges(times.weekdays, 'or')}"


def _weekdays(weekdays: Set[int]) -> str:
    ranges = _weekday_ranges(weekdays, "and")
    if len(weekdays) == 1:
        return f"every {ranges}"
    return f"{'from' if ranges.count(' to ') == 1 and ' and ' not in ranges else 'on'} {ranges}"


def _weekday_ranges(weekdays: Set[int], conjunction: str) -> str:
    mondays_first = {(weekday + 6) % 7 for weekday in weekdays}
    return _ranges(mondays_first, lambda weekday: _WEEK[weekday], conjunction)


def _named(name: str, numbers: Set[int], written: Callable[[int], str] = str) -> str:
    """Return numbers with their name: minute 5, days 1 and 15, days 1 to 7, every 2nd day from 1 to 31."""
    if len(numbers) == 1:
        return f"{name} {written(min(numbers))}"
    distance = _distance(sorted(numbers))
    if distance > 1 and len(numbers) > _MOST_CLOCKS:
        return f"every {_ordinal(distance)} {name} from {written(min(numbers))} to {written(max(numbers))}"
    return f"{name}s {_ranges(numbers, written)}"


def _ranges(numbers: Set[int], name: Callable[[int], str], conjunction: str = "and") -> str:
    """Return the names of numbers, with three or more neighbours as a range."""
    parts: list[str] = []
    ordered = sorted(numbers)
    while ordered:
        run = next(count for count in range(len(ordered), 0, -1) if ordered[count - 1] - ordered[0] == count - 1)
        if run > 2:
            parts.append(f"{name(ordered[0])} to {name(ordered[run - 1])}")
        else:
            parts += map(name, ordered[:run])
        ordered = ordered[run:]
    return _listed(parts, conjunction)


def _listed(parts: Iterable[str], conjunction: str = "and") -> str:
    *first, last = parts
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def _count(number: int, unit: str) -> str:
    return unit if number == 1 else f"{number} {unit}s"


def _ordinal(number: int) -> str:
    return f"{number}{_SUFFIXES.get(number, 'th')}"
