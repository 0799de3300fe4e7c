"""Intervals of the calendar and the clock, and their edges in a timezone.

Years, months, weeks and days begin at midnight in the timezone, so a day has 23 or 25 hours where the clocks change.
Months and years are counted from the year 2000, weeks and days from Monday, 3 January 2000. So P3M is a quarter, and
P1W begins on Monday.

Hours, minutes and seconds are elapsed time. They are counted from the midnight that begins each day, and the last one
of a day ends at the next midnight. So an hour always has 60 minutes: a repeated hour is two intervals, and a skipped
hour is none.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from query_api.calendar.durations import parse_duration
from query_api.calendar.zones import first_shown

_COUNTS = {"Y": "[1-9][0-9]?", "M": "[1-9][0-9]{0,2}", "W": "[1-9][0-9]{0,2}", "D": "[1-9][0-9]{0,2}"}
_TIME_COUNTS = {"H": "[1-9]|1[0-9]|2[0-4]", "M": "[1-9][0-9]{0,2}", "S": "[1-9][0-9]{0,3}"}


def _any_of(counts: dict[str, str]) -> str:
    return "|".join(f"({count}){unit}" for unit, count in counts.items())


PATTERN = f"^P({_any_of(_COUNTS)}|T({_any_of(_TIME_COUNTS)}))$"
RULE = "one unit of ISO 8601: P1Y to P99Y, P1M to P999M, P1W to P999W, P1D to P999D, PT1H to PT24H, PT1M to PT999M or "
RULE += "PT1S to PT9999S"
_is_interval = re.compile(PATTERN.removesuffix("$") + r"\Z", re.ASCII).match

_MONDAY = datetime(2000, 1, 3)  # noqa: DTZ001 (a wall-clock time, in any zone)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Interval(msgspec.Struct, frozen=True):
    """A number of months, a number of days, or days that are divided into steps of time."""

    months: int = 0
    days: int = 0
    step: timedelta | None = None

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Parse a duration of one unit. Raises ValueError for a text that PATTERN does not match."""
        if not _is_interval(text):
            raise ValueError(f"expected {RULE}")
        length = parse_duration(text)
        if length.exact:
            return cls(days=1, step=length.exact)
        return cls(length.total_months, length.total_days)

    def number(self, wall: datetime) -> int:
        """Return the number of the calendar interval that contains the wall-clock time."""
        if self.months:
            return ((wall.year - 2000) * 12 + wall.month - 1) // self.months
        return (wall - _MONDAY) // timedelta(days=self.days)

    def midnight(self, number: int) -> datetime:
        """Return the wall-clock time at which this calendar interval begins.

        Raises ValueError or OverflowError outside of the years 1 to 9999.
        """
        if self.months:
            years, months = divmod(number * self.months, 12)
            return datetime(2000 + years, 1 + months, 1)  # noqa: DTZ001 (a wall-clock time)
        return _MONDAY + timedelta(days=number * self.days)


def edges(interval: Interval, zone: ZoneInfo, first: datetime, last: datetime, at_most: int) -> list[datetime]:
    """Return the edges of the calendar intervals in UTC, ascending, from the one that contains `first`.

    They extend beyond `last`, or have `at_most` intervals.
    """
    found: list[datetime] = []
    for edge in _from(interval, zone, first):
        if not found or edge > found[-1]:  # a day that a timezone skips has no interval
            found.append(edge)
        if edge > last or edge == _LAST or len(found) > at_most:
            break
    return found


def _from(interval: Interval, zone: ZoneInfo, moment: datetime) -> Iterator[datetime]:
    number = interval.number(moment.astimezone(zone).replace(tzinfo=None))
    while _begins(interval, zone, number) > moment:  # the clock was set forward past midnight
        number -= 1
    while _begins(interval, zone, number + 1) <= moment:  # the clock was set back over midnight
        number += 1
    while True:
        yield _begins(interval, zone, number)
        number += 1


def _begins(interval: Interval, zone: ZoneInfo, number: int) -> datetime:
    """Return the first moment at which the clocks show this midnight or, if they skip it, a later time."""
    try:
        return first_shown(interval.midnight(number), zone)
    except (ValueError, OverflowError):
        return _FIRST if number < 0 else _LAST


def in_zone(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment with the timezone's offset, or in UTC if the offset has seconds, which RFC 3339 excludes."""
    local = moment.astimezone(zone)
    offset = local.utcoffset()
    return moment if offset is None or offset % timedelta(minutes=1) else local
