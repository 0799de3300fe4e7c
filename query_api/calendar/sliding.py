"""Sliding periods: a length of time before a tick ("the previous day"), in a time zone.

A length is a duration (`durations.py`).

An aligned period ends with the last whole unit before the tick, where the unit is the smallest in the length: P1D is
the previous day, P1M the previous month, P7D the previous seven days. A period that is not aligned ends at the tick.

An analysis includes both ends of its period. So the period ends one microsecond, PostgreSQL's resolution, before the
boundary: a reading on the boundary is in the next period only.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from query_api.calendar.durations import Duration
from query_api.calendar.period import Period
from query_api.calendar.zones import first_shown

_MICROSECOND = timedelta(microseconds=1)

# Start of the current day, or of the current longer unit.
_FIRST_DAY: dict[str, Callable[[date], date]] = {
    "years": lambda day: day.replace(month=1, day=1),
    "months": lambda day: day.replace(day=1),
    "weeks": lambda day: day - timedelta(days=day.weekday()),
    "days": lambda day: day,
}
# Start of the current shorter unit.
_BEGINNING: dict[str, Callable[[datetime], datetime]] = {
    "hours": lambda moment: moment.replace(minute=0, second=0, microsecond=0),
    "minutes": lambda moment: moment.replace(second=0, microsecond=0),
    "seconds": lambda moment: moment.replace(microsecond=0),
}


def period_before(tick: datetime, length: Duration, align: bool, zone: ZoneInfo) -> Period:
    """Return the period of this length, in UTC, that ends at the tick or, if aligned, with the last unit before it."""
    local = tick.astimezone(zone)
    if align and length.smallest in _FIRST_DAY:
        midnight = datetime.combine(_FIRST_DAY[length.smallest](local.date()), time())
        return Period(first_shown(length.before(midnight), zone), first_shown(midnight, zone) - _MICROSECOND)
    end = _BEGINNING[length.smallest](local) if align else local
    shown = end.replace(tzinfo=None, fold=0)
    earlier = length.before(shown)
    # A length without days keeps the moment, also in the second pass of a repeated hour.
    start = end.astimezone(UTC) if earlier == shown else first_shown(earlier, zone)
    return Period(start - length.exact, end.astimezone(UTC) - _MICROSECOND)
