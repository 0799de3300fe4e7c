"""The rules of a reading: the ranges of its values and its time, and the texts of refusals.

MQTT, HTTP and the replay of dead letters share them. Pure: the clock is passed in.

A time may be a number of seconds between EARLIEST_S and LATEST_S, in the years 2001 and 5138. In this range units are
unambiguous: the milliseconds of every time from 1973 on are above LATEST_S. A refusal of another number states what it
probably means.
"""

import math
from datetime import datetime
from typing import Annotated

import msgspec

from shared.readings.model import DAY, SECOND, Microseconds, to_datetime, to_microseconds

AXIS_LIMIT = 1000.0
"""x, y and z are from -AXIS_LIMIT to AXIS_LIMIT. The table readings has CHECKs with these limits."""
AXIS_RULE = f"a number from -{AXIS_LIMIT:g} to {AXIS_LIMIT:g}"
Axis = Annotated[float, msgspec.Meta(ge=-AXIS_LIMIT, le=AXIS_LIMIT)]
MAX_READINGS = 10_000
"""Most readings in one message or request."""
MQTT_TIME_RULE = 'RFC 3339 with an offset, such as "2026-01-31T12:00:00.25Z", or a number of seconds since 1970'
HTTP_TIME_RULE = (
    'RFC 3339 such as "2026-01-31T12:00:00Z" (without an offset it is UTC), or a number of seconds since 1970'
)
MAX_AHEAD: Microseconds = DAY
"""The most that a device's clock may be ahead of the server's."""

EARLIEST_S = 10**9
"""2001-09-09. A smaller number is the uptime of a device, or a date written as a number."""
LATEST_S = 10**11
"""5138-11-16, not included. A larger number is in milliseconds, microseconds or nanoseconds."""
_UNITS = ((10**14, 10**3, "milliseconds"), (10**17, 10**6, "microseconds"), (10**20, 10**9, "nanoseconds"))
"""Upper bound, units per second, name."""
_DATES = {
    4: ("%Y", "a year", "%Y-01-01"),
    6: ("%Y%m", "a year and a month", "%Y-%m-01"),
    8: ("%Y%m%d", "a date", "%Y-%m-%d"),
    12: ("%Y%m%d%H%M", "a date and a time", "%Y-%m-%dT%H:%M:00Z"),
    14: ("%Y%m%d%H%M%S", "a date and a time", "%Y-%m-%dT%H:%M:%SZ"),
    17: ("%Y%m%d%H%M%S%f", "a date and a time", "%Y-%m-%dT%H:%M:%S.%fZ"),
}
"""By number of digits: the format, its name, and the RFC 3339 form."""
_YEARS = range(1970, 2200)


def recorded_at(timestamp: datetime | float, now: Microseconds, oldest_age: Microseconds) -> Microseconds:
    """Return the time of a reading from its timestamp: a datetime with an offset, or seconds since 1970.

    `oldest_age`: the most by which it may precede `now`, its time of receipt (`Settings.oldest_age`). Raises ValueError
    with the fault.
    """
    accepted = accepted_at(timestamp, now, oldest_age)
    if accepted is not None:
        return accepted
    moment = to_microseconds(timestamp) if isinstance(timestamp, datetime) else from_number(timestamp)
    shown = _shown(timestamp, moment)
    if moment > now:
        raise ValueError(f"{shown} is more than a day ahead of the clock, which is {to_datetime(now).isoformat()}")
    raise too_old(shown, oldest_age)


def accepted_at(timestamp: datetime | float, now: Microseconds, oldest_age: Microseconds) -> Microseconds | None:
    """Return the result of `recorded_at`, or None if it raises. It is faster, as it creates no message."""
    if isinstance(timestamp, datetime):
        moment = to_microseconds(timestamp)
    elif EARLIEST_S <= timestamp < LATEST_S:  # false for NaN
        moment = round(timestamp * SECOND)
    else:
        return None
    return moment if is_near(moment, now, oldest_age) else None


def is_near(moment: Microseconds, now: Microseconds, oldest_age: Microseconds) -> bool:
    """Return whether the moment is neither too old nor too far ahead of `now`."""
    return now - oldest_age <= moment <= now + MAX_AHEAD


def too_old(shown: str, oldest_age: Microseconds) -> ValueError:
    """Return the refusal of a time that precedes its receipt by too much. `shown`: its text."""
    return ValueError(
        f"{shown} is more than {oldest_age / DAY:g} days old: the settings OLDEST and RETENTION set this limit. "
        "A device that does not know the time should omit the timestamp"
    )


def _shown(timestamp: datetime | float, moment: Microseconds) -> str:
    if isinstance(timestamp, datetime):
        return timestamp.isoformat()
    return f"{timestamp:.15g} ({to_datetime(moment).isoformat()})"


class ImplausibleTime(ValueError):
    """The number is not a time in seconds since 1970. The message has its likely meaning, and the right form."""


def from_number(seconds: float) -> Microseconds:
    """Return the time of this number of seconds since 1970. Raises ImplausibleTime."""
    if not EARLIEST_S <= seconds < LATEST_S:  # false for NaN, too
        raise ImplausibleTime(looks_like(seconds))
    return round(seconds * SECOND)


def looks_like(number: float) -> str:
    """Return the likely meaning of a number outside of EARLIEST_S and LATEST_S, and the right form."""
    if not math.isfinite(number):
        return f"{number} is not a number of seconds since 1970"
    if number < 0:
        return f"{_plain(number)} looks like a time before 1970: write it as RFC 3339, such as 1969-07-20T20:17:40Z"
    date = _as_date(number)
    if date is not None:
        return f"{_plain(number)} looks like {date}"
    if number < EARLIEST_S:
        return f"{_plain(number)} looks like {_since_the_start(number)}: write seconds since 1970, or RFC 3339"
    for bound, units, name in _UNITS:
        if number < bound:
            return f"{_plain(number)} looks like {name} since 1970: write seconds, {_seconds(number, units)}"
    return f"{_plain(number)} is too large for a number of seconds since 1970"


def _since_the_start(number: float) -> str:
    return "a clock that is not set" if number == 0 else "seconds since the device started"


def _as_date(number: float) -> str | None:
    """Return the date in the digits of the number, such as 20261101, and its RFC 3339 form."""
    digits = _plain(number)
    pattern, name, instead = _DATES.get(len(digits), ("", "", ""))
    try:
        date = datetime.strptime(digits, pattern)  # noqa: DTZ007  # only its digits matter
    except ValueError:
        return None
    if date.year not in _YEARS or date.strftime(pattern)[: len(digits)] != digits:
        return None
    return f"{name} written as a number: write {date.strftime(instead)}"


def _seconds(number: float, units: int) -> str:
    return f"{number / units:.6f}".rstrip("0").rstrip(".")


def _plain(number: float) -> str:
    """Return the number without an exponent, and without .0."""
    return f"{number:.0f}" if number < 10**20 and number == int(number) else repr(number)
