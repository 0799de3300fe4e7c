"""Sliding periods: a length of time before a tick ("the previous day"), in a time zone.

A length is an ISO 8601 duration: P1D, P3M, P1DT12H. Its years, months, weeks and days are a calendar's, so that a day
is 23 or 25 hours long when the clocks change; hours, minutes and seconds are exact.

Aligned, the period ends where the last whole unit before the tick does, of the smallest unit that the length names:
P1D is the whole day before the tick's day, P1M the whole month before its month, P7D the seven whole days before its
day. Not aligned, it ends at the tick.

An analysis includes both ends of its period. So the period's end is one microsecond, PostgreSQL's resolution, before
the boundary: a reading on the boundary is in the next period only.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from query_api.calendar.period import Period
from query_api.calendar.zones import first_shown

MAX_LENGTH = 40
"""Characters of a duration."""
MAX_DAYS = 36_525
"""A century."""
_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+)W|(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?)",
    re.ASCII,
)
_DAYS_OF = {
    "years": 365.25, "months": 365.25 / 12, "weeks": 7, "days": 1,
    "hours": 1 / 24, "minutes": 1 / 1440, "seconds": 1 / 86_400,
}  # fmt: skip
_MICROSECOND = timedelta(microseconds=1)

# The latest beginning of a day, or of a longer unit.
_FIRST_DAY: dict[str, Callable[[date], date]] = {
    "years": lambda day: day.replace(month=1, day=1),
    "months": lambda day: day.replace(day=1),
    "weeks": lambda day: day - timedelta(days=day.weekday()),
    "days": lambda day: day,
}
# The latest beginning of a shorter one.
_BEGINNING: dict[str, Callable[[datetime], datetime]] = {
    "hours": lambda moment: moment.replace(minute=0, second=0, microsecond=0),
    "minutes": lambda moment: moment.replace(second=0, microsecond=0),
    "seconds": lambda moment: moment.replace(microsecond=0),
}


class Duration(msgspec.Struct, frozen=True):
    """A length of time: a number of each unit that it names; None for the other units."""

    years: int | None = None
    months: int | None = None
    weeks: int | None = None
    days: int | None = None
    hours: int | None = None
    minutes: int | None = None
    seconds: int | None = None

    @property
    def smallest(self) -> str:
        """The smallest unit that it names."""
        return [name for name in self.__struct_fields__ if getattr(self, name) is not None][-1]

    @property
    def exact(self) -> timedelta:
        """Its hours, minutes and seconds."""
        return timedelta(hours=self.hours or 0, minutes=self.minutes or 0, seconds=self.seconds or 0)

    def before(self, wall: datetime) -> datetime:
        """Return the wall-clock time that is earlier by its years, months, weeks and days.

        If the month is too short for the day, it is the last day of the month.
        """
        months = wall.year * 12 + wall.month - 1 - (self.years or 0) * 12 - (self.months or 0)
        year, month = divmod(months, 12)
        days_in_month = (date(year + (month + 1) // 12, (month + 1) % 12 + 1, 1) - date(year, month + 1, 1)).days
        day = min(wall.day, days_in_month)
        return wall.replace(year=year, month=month + 1, day=day) - timedelta(weeks=self.weeks or 0, days=self.days or 0)


def parse_duration(text: str) -> Duration:
    """Parse an ISO 8601 duration. Raises ValueError, which says what is expected."""
    found = _DURATION.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if found is None or not any(found.groupdict().values()):
        raise ValueError('expected an ISO 8601 duration in whole numbers, such as "P1D", "P1W", "P1M" or "PT12H"')
    amounts = {unit: int(digits) for unit, digits in found.groupdict().items() if digits is not None}
    if not 0 < sum(amount * _DAYS_OF[unit] for unit, amount in amounts.items()) <= MAX_DAYS:
        raise ValueError("expected a duration of at least a second and at most a century")
    return Duration(**amounts)


def period_before(tick: datetime, length: Duration, align: bool, zone: ZoneInfo) -> Period:
    """Return the period of this length, in UTC, that ends at the tick or, aligned, with the last unit before it."""
    local = tick.astimezone(zone)
    if align and length.smallest in _FIRST_DAY:
        midnight = datetime.combine(_FIRST_DAY[length.smallest](local.date()), time())
        return Period(first_shown(length.before(midnight), zone), first_shown(midnight, zone) - _MICROSECOND)
    end = _BEGINNING[length.smallest](local) if align else local
    shown = end.replace(tzinfo=None, fold=0)
    earlier = length.before(shown)
    # Without days it is the same moment, also in the second of two hours that look alike.
    start = end.astimezone(UTC) if earlier == shown else first_shown(earlier, zone)
    return Period(start - length.exact, end.astimezone(UTC) - _MICROSECOND)
