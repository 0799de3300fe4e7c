"""Checks the readings of an HTTP request, sets their times, and stores all or none of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
import numpy as np

from query_api.errors import Fault
from query_api.ids import is_id
from query_api.readings.record import X, Y, Z
from query_api.readings.write_batcher import WriteBatcher
from query_api.web.answers import problems
from query_api.web.answers.problems import Refused, invalid
from query_api.web.requests.times import in_utc
from shared.event_loop.parts import AT_ONCE_SLOW, fetched, mapped
from shared.postgres.arrays import Bigints, adapted
from shared.postgres.connections import Connection, Pool
from shared.readings.clock import Clock
from shared.readings.model import EPOCH, Microseconds, Reading
from shared.readings.rows import Rows
from shared.readings.rules import HTTP_TIME_RULE, is_near, recorded_at
from shared.readings.store import StoredIds

FEWEST_IN_COLUMNS = 48
"""Readings of a request from which on numpy is faster than a loop."""
_Timestamp = datetime | float | None


class NewReading(msgspec.Struct, frozen=True):
    """A reading to store."""

    device_id: Annotated[
        int,
        msgspec.Meta(description="Id of the device.", extra={"takes": "a whole number"}, examples=[1]),
    ]
    x: X
    y: Y
    z: Z
    timestamp: Annotated[
        _Timestamp,
        msgspec.Meta(
            extra={"takes": HTTP_TIME_RULE},
            description="The time of the measurement: RFC 3339 (without an offset it is UTC), or a number of seconds "
            "since 1970. It is not older than the settings OLDEST and RETENTION allow, and at most a day ahead of the "
            "server's clock. Default: the time of the request.",
            examples=["2026-01-31T12:00:00.25Z"],
        ),
    ] = None


class Submission(msgspec.Struct, frozen=True):
    """The readings of one request: one reading, or an array."""

    readings: list[NewReading]
    is_array: bool

    def field(self, position: int, name: str) -> str:
        """Return the name that a fault gives to the field of the reading at the position."""
        return f"[{position}].{name}" if self.is_array else name


def receipt_clock() -> Clock:
    """Return the clock of the API, whose times of receipt no ingestor uses (shared.readings.clock)."""
    return Clock(step=4, offset=1)


class Taken(msgspec.Struct, frozen=True):
    """The readings of a request, and their ids."""

    readings: Rows
    stored: StoredIds


class Intake:
    """Stores the readings of requests, with unique times of receipt."""

    def __init__(self, database: Pool, batcher: WriteBatcher, oldest_age: Microseconds) -> None:
        """`oldest_age`: the most that the time of a reading may precede its receipt."""
        self._database = database
        self._oldest_age = oldest_age
        self._batcher = batcher
        self._clock = receipt_clock()

    async def take(self, given: Submission, caller: str) -> Taken:
        """Store the readings, and return them with their ids. The array of a request is then empty.

        Raises Refused, and stores nothing, if a time is wrong or a device is unknown.
        """
        received = self._receipt_times(len(given.readings))
        recorded = await recording_times(given, received, self._oldest_age)
        devices = [new.device_id for new in given.readings]
        if is_id(min(devices)) and is_id(max(devices)):
            readings = _rows(given.readings, devices, recorded, received)
            given.readings.clear()  # some 200 bytes each, which would otherwise wait with the rows
            stored = await self._batcher.store(readings, caller)
            if stored is not None:
                return Taken(readings, stored)
        async with self._database.connection() as connection:
            raise await unknown_devices(connection, devices, given)

    def _receipt_times(self, count: int) -> range:
        """Return `count` moments, strictly increasing over all requests: equal readings without times then differ."""
        first, step = self._clock.read(), self._clock.step
        self._clock.take(first, count)
        return range(first, first + count * step, step)


def _rows(new: Sequence[NewReading], devices: Sequence[int], recorded: Sequence[Microseconds], received: range) -> Rows:
    rows = Rows()
    if len(new) < FEWEST_IN_COLUMNS:
        rows.extend(
            Reading(device_id, recorded_at, received_at, one.x, one.y, one.z)
            for one, device_id, recorded_at, received_at in zip(new, devices, recorded, received, strict=True)
        )
    else:
        axes = ([one.x for one in new], [one.y for one in new], [one.z for one in new])
        rows.extend_columns(np.array(devices), np.array(recorded), received, [np.array(axis) for axis in axes])
    return rows


async def recording_times(given: Submission, received: range, oldest_age: Microseconds) -> Sequence[Microseconds]:
    """Return the time of each reading. Raises Refused with each time that is wrong."""
    timestamps = [new.timestamp for new in given.readings]
    if len(timestamps) == timestamps.count(None):
        return received
    recorded = _all_of_datetimes(timestamps, received, oldest_age)
    return await _each_of(timestamps, given, received, oldest_age) if recorded is None else recorded


def _all_of_datetimes(
    timestamps: Sequence[Any], received: range, oldest_age: Microseconds
) -> list[Microseconds] | None:
    """Return the times, without a loop; None unless all are datetimes with an offset, and accepted."""
    try:
        since = [timestamp - EPOCH for timestamp in timestamps]
    except TypeError:
        return None
    moments = np.array(since, "m8[us]").astype(np.int64)
    is_accepted = is_near(int(moments.min()), received[-1], oldest_age)
    is_accepted &= is_near(int(moments.max()), received[0], oldest_age)
    return moments.tolist() if is_accepted else None


async def _each_of(
    timestamps: Sequence[_Timestamp], given: Submission, received: range, oldest_age: Microseconds
) -> list[Microseconds]:
    """Raises Refused with each time that is wrong."""
    faults: list[Fault] = []

    def moment(position: int) -> Microseconds:
        try:
            return _recorded_at(timestamps[position], received[position], oldest_age)
        except ValueError as error:
            faults.append(Fault(given.field(position, "timestamp"), str(error)))
            return 0

    moments = await mapped(range(len(timestamps)), moment, AT_ONCE_SLOW)
    if faults:
        raise invalid(*faults)
    return moments


def _recorded_at(timestamp: _Timestamp, now: Microseconds, oldest_age: Microseconds) -> Microseconds:
    if timestamp is None:
        return now
    return recorded_at(in_utc(timestamp) if isinstance(timestamp, datetime) else timestamp, now, oldest_age)


_KNOWN = "SELECT id FROM devices WHERE id = ANY(%s)"


async def unknown_devices(connection: Connection, devices: Sequence[int], given: Submission) -> Refused:
    """Return the refusal of readings of unknown devices. `devices`: of each reading."""
    ids = Bigints(np.array([device_id for device_id in set(devices) if is_id(device_id)], np.int64))
    async with adapted(connection).cursor() as cursor:
        known = {device_id for (device_id,) in await fetched(await cursor.execute(_KNOWN, (ids,)))}
    unknown = [position for position, device_id in enumerate(devices) if device_id not in known]
    faults = await mapped(unknown, lambda at: Fault(given.field(at, "device_id"), f"there is no device {devices[at]}"))
    detail = faults[0].detail if faults else "a device was registered only after the request"
    return Refused(problems.UNKNOWN_DEVICE, f"{detail}: POST /devices registers one, GET /devices lists them", faults)
