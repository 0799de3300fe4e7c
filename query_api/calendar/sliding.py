"""Sliding periods: a length of time before a tick ("the previous day"), in a time zone.

A length is a duration (`durations.py`).

Aligned, the period ends where the last whole unit before the tick does, of the smallest unit that the length names:
P1D is the whole day before the tick's day, P1M the whole month before its month, P7D the seven whole days before its
day. Not aligned, it ends at the tick.

An analysis includes both ends of its period. So the period's end is one microsecond, PostgreSQL's resolution, before
the boundary: a reading on the boundary is in the next period only.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from query_api.calendar.durations import Duration
from query_api.calendar.period import Period
from query_api.calendar.zones import first_shown

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
