"""Cron expressions: read as crontab(5) has them, their ticks computed by APScheduler.

minute (0-59), hour (0-23), day of month (1-31), month (1-12 or JAN-DEC), day of week (0-7 or SUN-SAT, where 0 and
7 are Sunday). Each is `*`, a number, a range (1-5), a list of them (1,15,20-25), and a range or `*` may have a step
(*/15). Or one of @hourly, @daily, @weekly, @monthly and @yearly.

Where both days are restricted, which is to say that neither starts with `*`, a day that fits either of them fits
(POSIX crontab). APScheduler wants both to fit, counts weekdays from Monday and refuses some of these forms: so an
expression is read here, into numbers, and only numbers go to APScheduler.

It also loses ticks next to a change of the clocks (3.11). So it is asked for what the clocks show, and where they are
put forward or back is seen to here:

- With `*` as the hour, a tick comes in every hour that passes, also in both of the hour that the clocks show twice.
- Otherwise a day's ticks come once each. Those of the hour that the clocks skip come together, as one, at the moment
  they skip it; those of the hour that they show twice come the first time.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

MAX_LENGTH = 200
"""Characters of an expression."""

FIVE_FIELDS = r"^[ \t]*(@[A-Za-z]+|[^ \t]+([ \t]+[^ \t]+){4})[ \t]*$"
"""What an expression looks like from afar: for the document."""

_MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_MONTHS = {
    "JAN": 1, "FEB": 2, "MAR": 3, "APR": 4, "MAY": 5, "JUN": 6,
    "JUL": 7, "AUG": 8, "SEP": 9, "OCT": 10, "NOV": 11, "DEC": 12,
}  # fmt: skip
_WEEKDAYS = {"SUN": 0, "MON": 1, "TUE": 2, "WED": 3, "THU": 4, "FRI": 5, "SAT": 6}
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of each month, in the years in which it has most."""
_PART = re.compile(r"(?:(?P<all>\*)|(?P<first>[0-9]+|[A-Z]+)(?:-(?P<last>[0-9]+|[A-Z]+))?)(?:/(?P<step>[0-9]+))?")
_SECOND, _MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)


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


class Cron:
    """When an expression ticks in a time zone. Raises ValueError, which says what is wrong with the expression."""

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        fields = _split(expression)
        minute, hour, day, month, weekday = (_numbers(text, field) for text, field in zip(fields, _FIELDS, strict=True))
        either_day = fields[2][0] != "*" and fields[4][0] != "*"
        can_be = min(day) <= max(_LONGEST[number - 1] for number in month)  # APScheduler would look for it for ever
        if not either_day and not can_be:
            raise ValueError(f"{expression!r} never ticks: none of its months has a day {min(day)}")
        self._zone = zone
        self._in_every_hour = len(hour) == 24
        time = {"minute": _listed(minute), "hour": _listed(hour), "month": _listed(month), "second": "0"}
        days = {"day": _listed(day)}
        weekdays = {"day_of_week": _listed((number - 1) % 7 for number in weekday)}  # APScheduler: 0 is Monday
        either = (*([days] if can_be else []), weekdays) if either_day else (days | weekdays,)
        self._trigger = OrTrigger([CronTrigger(**time, **one, timezone=UTC) for one in either])

    def after(self, moment: datetime) -> datetime:
        """The first tick after the moment, in UTC."""
        if self._in_every_hour:
            return self._passing(moment + _MICROSECOND)
        shown = _face(moment.astimezone(self._zone))
        while True:
            shown = self._next_shown(shown + _MICROSECOND)
            tick = first_shown(shown.replace(tzinfo=None), self._zone)
            if tick > moment:
                return tick

    def _passing(self, moment: datetime) -> datetime:
        """The first tick from the moment on, by the time that passes."""
        while True:
            local = moment.astimezone(self._zone)
            offset = _offset(local)
            tick = self._next_shown(_face(local)) - offset
            if _offset(tick.astimezone(self._zone)) == offset:
                return tick
            moment = self._change(moment, tick, offset)  # on the way to it: the clocks show other times from there on

    def _change(self, since: datetime, until: datetime, offset: timedelta) -> datetime:
        """When the zone's offset ceases to be this."""
        seconds = range(int(since.timestamp()) + 1, int(until.timestamp()))
        same = bisect_left(seconds, True, key=lambda s: _offset(_moment(s).astimezone(self._zone)) != offset)
        return _moment(seconds.start + same)

    def _next_shown(self, shown: datetime) -> datetime:
        """What clocks show at the first tick from then on, were they never put forward or back."""
        tick: datetime | None = self._trigger.get_next_fire_time(None, shown)
        assert tick is not None, "what never ticks is refused"
        return tick

    def latest(self, due: datetime, now: datetime) -> datetime:
        """The last tick from one that is due until now, both included."""
        first, last = int(due.timestamp()), int(now.timestamp())
        none_left = bisect_left(range(first, last), True, key=lambda second: self.after(_moment(second)) > now)
        return _moment(first + none_left)


def first_shown(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first moment, in UTC, at which clocks in the zone show this time or, if they skip it, a later one."""
    before, after = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if before <= after:  # the time comes once; or twice, and this is the first
        return before
    seconds = range(int(after.timestamp()), int(before.timestamp()))
    skipped = bisect_left(seconds, wall, key=lambda second: _moment(second).astimezone(zone).replace(tzinfo=None))
    return after + skipped * _SECOND


def _face(local: datetime) -> datetime:
    """What the clocks show, as a moment of a zone that never puts them forward or back: APScheduler errs in others."""
    return local.replace(tzinfo=UTC, fold=0)


def _offset(local: datetime) -> timedelta:
    offset = local.utcoffset()
    assert offset is not None, "it is in a time zone"
    return offset


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _split(expression: str) -> list[str]:
    """The five fields, in upper case."""
    text = _MACROS.get(expression.lower().strip(" \t"), expression)
    fields = re.split(r"[ \t]+", text.strip(" \t").upper())
    if fields[0].startswith("@"):
        raise ValueError(f"{expression!r} is none of {', '.join(_MACROS)}")
    if len(fields) != len(_FIELDS) or not fields[0]:
        names = ", ".join(field.name for field in _FIELDS)
        count = len(fields) if fields[0] else 0
        raise ValueError(f"{expression!r} has {count} of the five fields: {names}")
    return fields


def _numbers(text: str, field: _Field) -> set[int]:
    """What the field names: "1-5,*/20"."""
    return {number for part in text.split(",") for number in _part(part, field)}


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
            f"the {field.name}'s step {found[0]!r} goes with * or a range, such as {found['first']}-{field.most}"
        )
    if not 1 <= int(found["step"]) <= field.most:
        raise ValueError(f"the {field.name}'s step {found[0]!r} is not from 1 to {field.most}")
    return int(found["step"])


def _number(text: str, field: _Field) -> int:
    number = field.names.get(text, -1) if text.isalpha() else int(text)
    if not field.least <= number <= field.most:
        raise ValueError(f"{field.takes}, not {text!r}")
    return number


def _listed(numbers: Iterator[int] | set[int]) -> str:
    return ",".join(map(str, sorted(set(numbers))))
