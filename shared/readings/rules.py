"""The rules of a reading: the ranges of its values and its time, and the texts of refusals.

MQTT, HTTP and the replay of dead letters share them. Pure: the clock is passed in.
"""

from datetime import datetime
from typing import Annotated

import msgspec

from shared.readings.model import DAY, SECOND, Microseconds, to_datetime, to_microseconds
from shared.readings.numeric_times import EARLIEST_S, LATEST_S, from_number

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
