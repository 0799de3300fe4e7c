"""Parse times that are numbers: seconds since 1970, or a refusal with the likely meaning of the number.

MQTT payloads, HTTP bodies and query parameters use it. Pure.

A number of seconds is between EARLIEST_S and LATEST_S, in the years 2001 and 5138. In this range units are unambiguous:
the milliseconds of every time from 1973 on are above LATEST_S. The caller decides whether the time is too old, or ahead
of the clock.
"""

import math
from datetime import datetime

from shared.readings.model import SECOND, Microseconds

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
        return f"{_shown(number)} looks like a time before 1970: write it as RFC 3339, such as 1969-07-20T20:17:40Z"
    date = _as_date(number)
    if date is not None:
        return f"{_shown(number)} looks like {date}"
    if number < EARLIEST_S:
        return f"{_shown(number)} looks like {_since_the_start(number)}: write seconds since 1970, or RFC 3339"
    for bound, units, name in _UNITS:
        if number < bound:
            return f"{_shown(number)} looks like {name} since 1970: write seconds, {_seconds(number, units)}"
    return f"{_shown(number)} is too large for a number of seconds since 1970"


def _since_the_start(number: float) -> str:
    return "a clock that is not set" if number == 0 else "seconds since the device started"


def _as_date(number: float) -> str | None:
    """Return the date in the digits of the number, such as 20261101, and its RFC 3339 form."""
    digits = _shown(number)
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


def _shown(number: float) -> str:
    """Return the number without an exponent, and without .0."""
    return f"{number:.0f}" if number < 10**20 and number == int(number) else repr(number)
