"""Cron expressions, as crontab(5) has them. cronsim computes their ticks.

minute (0-59), hour (0-23), day of month (1-31), month (1-12 or JAN-DEC), day of week (0-7 or SUN-SAT, where 0 and
7 are Sunday). A field is `*`, a number, a range (1-5), or a list of them (1,15,20-25). A range or `*` may have a step
(*/15). An expression may also be @hourly, @daily, @weekly, @monthly or @yearly.

If both days are restricted, which means that neither starts with `*`, a day that matches either of them matches
(POSIX crontab).

At a change of the clocks:

- If the hour is `*`, an expression ticks in every elapsed hour, and so twice in a repeated hour.
- Otherwise a tick in a skipped hour runs at the end of that hour. Several such ticks run once. A tick in a repeated
  hour runs the first time only.

Errors of cronsim name only the wrong field, and cronsim accepts more than crontab(5). So this module parses the fields
into numbers, and its errors state the valid values of each field. cronsim applies the second rule if neither the minute
nor the hour starts with `*`, so both are passed as numbers.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim

MAX_LENGTH = 200
"""Characters of an expression."""

FIVE_FIELDS = r"^[ \t]*(@[A-Za-z]+|[^ \t]+([ \t]+[^ \t]+){4})[ \t]*$"
"""The form of an expression, for the OpenAPI document."""

_MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_MONTHS = {
    "JAN": 1, "FEB": 2, "MAR": 3, "APR": 4, "MAY": 5, "JUN": 6,
    "JUL": 7, "AUG": 8, "SEP": 9, "OCT": 10, "NOV": 11, "DEC": 12,
}  # fmt: skip
_WEEKDAYS = {"SUN": 0, "MON": 1, "TUE": 2, "WED": 3, "THU": 4, "FRI": 5, "SAT": 6}
_NO_MINUTE = 60
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of each month, in a leap year."""
_PART = re.compile(r"(?:(?P<all>\*)|(?P<first>[0-9]+|[A-Z]+)(?:-(?P<last>[0-9]+|[A-Z]+))?)(?:/(?P<step>[0-9]+))?")


class _Field(msgspec.Struct, frozen=True):
    name: str
    least: int
    most: int
    names: Mapping[str, int] = {}

    @property
    def takes(self) -> str:
        names = list(self.names)
        either = f" or {names[0]} to {names[-1]}" if names else ""
        return f"the {self.name} takes {self.least} to {self.most}{either}"


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)


class Times(msgspec.Struct, frozen=True):
    """The numbers that each field of an expression names. `either_day`: a day that is in `days` or `weekdays` matches.

    Otherwise it must be in both. `weekdays`: 0 to 6, where 0 is Sunday.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool


class Cron:
    """A cron expression in a time zone. Raises ValueError with the fault of a wrong expression."""

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        fields = _split(expression)
        numbers = [_numbers(text, field) for text, field in zip(fields, _FIELDS, strict=True)]
        minutes, hours, days, months, weekdays = numbers
        either_day = fields[2][0] != "*" and fields[4][0] != "*"
        if not either_day and min(days) > max(_LONGEST[month - 1] for month in months):
            raise ValueError(f"{expression!r} never ticks: none of its months has a day {min(days)}")
        self.times = Times(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), either_day)
        listed = [",".join(map(str, sorted(some))) for some in numbers]
        for place, text in enumerate(fields):
            if text[0] == "*" and (place > 1 or (place == 1 and len(hours) == 24)):
                listed[place] = text
        self._fields = " ".join(listed)
        self._zone = zone

    def after(self, moment: datetime) -> datetime:
        """Return the first tick after the moment, in UTC."""
        ticks = CronSim(self._fields, moment.astimezone(self._zone))
        # cronsim jumps to a single minute, and misses the half hour by which Lord Howe Island sets its clocks back.
        # With a second minute, which never occurs, it steps.
        ticks.minutes.add(_NO_MINUTE)
        return next(in_utc for tick in ticks if (in_utc := tick.astimezone(UTC)) > moment)

    def latest(self, due: datetime, now: datetime) -> datetime:
        """Return the last tick from `due`, which is a tick, to `now`. Both are included."""
        first, last = int(due.timestamp()), int(now.timestamp())
        none_left = bisect_left(range(first, last), True, key=lambda second: self.after(_moment(second)) > now)
        return _moment(first + none_left)


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _split(expression: str) -> list[str]:
    """Return the five fields, in upper case."""
    text = _MACROS.get(expression.lower().strip(" \t"), expression)
    fields = re.split(r"[ \t]+", text.strip(" \t").upper())
    if fields[0].startswith("@"):
        raise ValueError(f"{expression!r} is none of {', '.join(_MACROS)}")
    if len(fields) != len(_FIELDS) or not fields[0]:
        names = ", ".join(field.name for field in _FIELDS)
        count = len(fields) if fields[0] else 0
        raise ValueError(f"{expression!r} has {count} of the five fields: {names}")
    return fields


def _numbers(text: str, field: _Field) -> frozenset[int]:
    """Return the numbers that a field such as "1-5,*/20" names."""
    return frozenset(number for part in text.split(",") for number in _part(part, field))


def _part(text: str, field: _Field) -> Iterator[int]:
    found = _PART.fullmatch(text)
    if found is None:
        raise ValueError(f"{field.takes}, a range, a list of them or *, not {text!r}")
    if found["all"]:
        first, last = field.least, min(field.most, 6) if field.names is _WEEKDAYS else field.most
    else:
        first = _number(found["first"], field)
        last = _number(found["last"], field) if found["last"] else first
        if found["last"] == "SUN":
            last = 7
    if first > last:
        raise ValueError(f"the {field.name}'s range {text!r} ends before it starts")
    return iter(range(first, last + 1, _step(found, field)))


def _step(found: re.Match[str], field: _Field) -> int:
    if found["step"] is None:
        return 1
    if not found["all"] and found["last"] is None:
        raise ValueError(
            f"the {field.name}'s step {found[0]!r} requires * or a range, such as {found['first']}-{field.most}"
        )
    if not 1 <= int(found["step"]) <= field.most:
        raise ValueError(f"the {field.name}'s step {found[0]!r} is not from 1 to {field.most}")
    return int(found["step"])


def _number(text: str, field: _Field) -> int:
    number = field.names.get(text, -1) if text.isalpha() else int(text)
    if not field.least <= number <= field.most:
        raise ValueError(f"{field.takes}, not {text!r}")
    return number
