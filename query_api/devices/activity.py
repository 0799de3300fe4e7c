"""The activity of devices: their state, their usual interval and their rate (ADR 47).

`query_api/worker/maintenance/activity.py` keeps the figures in `device_activity`. The state that is shown also
considers the latest reading, so that it is current. Lists are in the order of the stored figures.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec
import numpy as np

from shared.postgres.arrays import Bigints, adapted
from shared.postgres.connections import Connection

SHORTEST = timedelta(seconds=5)
"""A shorter interval counts as this one, as messages are delayed on their way."""
LIVE_FOR, LATE_FOR = 2, 10
"""Intervals after the last reading until a device is late, and until it is silent."""
LAST_READINGS = 10
"""Readings from which the interval and the rate are computed."""


class State(StrEnum):
    """The state of a device, by the age of its last reading."""

    LIVE = "live"
    LATE = "late"
    SILENT = "silent"
    NEVER = "never"

    @property
    def code(self) -> int:
        """The number in `device_activity.state`. States are sorted by it."""
        return _CODES[self]


_CODES = {state: code for code, state in enumerate(State)}


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """The stored figures of a device, and the current time.

    `last_at`: the time of the last reading, or of its receipt if that was earlier.
    """

    now: datetime
    last_at: datetime | None = None
    interval: timedelta | None = None
    rate: float = 0.0

    def state(self, latest_at: datetime | None) -> State:
        """Return the current state. `latest_at`: the time of the latest reading; None without readings.

        A time in the future says nothing: the clock of the device is ahead. `last_at` considers the time of receipt.
        """
        if latest_at is None:
            return State.NEVER
        known = [moment for moment in (latest_at, self.last_at) if moment is not None and moment <= self.now]
        return state_after(self.now - max(known, default=self.now), self.interval)


def state_after(age: timedelta, interval: timedelta | None) -> State:
    """Return the state of a device whose last reading has this age."""
    usual = max(interval or SHORTEST, SHORTEST)
    if age <= LIVE_FOR * usual:
        return State.LIVE
    return State.LATE if age <= LATE_FOR * usual else State.SILENT


# Every id is in the result, with its row or without one.
_READ = """
    SELECT asked.id, now(), nullif(last_at, '-infinity'), activity.interval, coalesce(rate, 0)
    FROM unnest(%s::bigint[]) AS asked (id) LEFT JOIN device_activity AS activity ON device_id = asked.id
"""


async def read_activity(connection: Connection, device_ids: Sequence[int]) -> Mapping[int, Activity]:
    """Return the activity of each device."""
    async with adapted(connection).cursor() as cursor:
        await cursor.execute(_READ, (Bigints(np.array(device_ids, np.int64)),))
        return {
            device_id: Activity(now=now, last_at=last_at, interval=interval, rate=rate)
            for device_id, now, last_at, interval, rate in await cursor.fetchall()
        }


_UPDATED_AT = "SELECT began_at FROM device_activity_round"


async def updated_at(connection: Connection) -> datetime | None:
    """Return the start of the latest complete round of a worker; None before the first one."""
    row = await (await connection.execute(_UPDATED_AT)).fetchone()
    return None if row is None else row[0]
