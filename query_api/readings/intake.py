"""Checks the readings of an HTTP request, sets their times, and stores all or none of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec

from query_api.errors import Fault
from query_api.ids import is_id
from query_api.readings.record import X, Y, Z
from query_api.readings.write_batcher import WriteBatcher
from query_api.web.answers import problems
from query_api.web.answers.problems import Refused, invalid
from query_api.web.requests.times import in_utc
from shared.postgres.connections import Connection, Pool
from shared.readings.clock import Clock
from shared.readings.model import Microseconds, Reading
from shared.readings.rules import HTTP_TIME_RULE, recorded_at
from shared.readings.store import StoredId


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
        datetime | float | None,
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

    readings: Sequence[NewReading]
    is_array: bool

    def field(self, position: int, name: str) -> str:
        """Return the name that a fault gives to the field of the reading at the position."""
        return f"[{position}].{name}" if self.is_array else name


def receipt_clock() -> Clock:
    """Return the clock of the API, whose times of receipt no ingestor uses (shared.readings.clock)."""
    return Clock(step=4, offset=1)


class Intake:
    """Stores the readings of requests, with unique times of receipt."""

    def __init__(self, database: Pool, batcher: WriteBatcher, oldest_age: Microseconds) -> None:
        """`oldest_age`: the most that the time of a reading may precede its receipt."""
        self._database = database
        self._oldest_age = oldest_age
        self._batcher = batcher
        self._clock = receipt_clock()

    async def take(self, given: Submission, caller: str) -> tuple[list[Reading], Sequence[StoredId]]:
        """Store the readings, and return them with their ids.

        Raises Refused, and stores nothing, if a time is wrong or a device is unknown.
        """
        readings = to_readings(given, self._receipt_times(len(given.readings)), self._oldest_age)
        if all(is_id(new.device_id) for new in given.readings):
            stored = await self._batcher.store(readings, caller)
            if stored is not None:
                return readings, stored
        async with self._database.connection() as connection:
            raise await _unknown_devices(connection, given)

    def _receipt_times(self, count: int) -> range:
        """Return `count` moments, strictly increasing over all requests: equal readings without times then differ."""
        first, step = self._clock.read(), self._clock.step
        self._clock.take(first, count)
        return range(first, first + count * step, step)


def to_readings(given: Submission, received: Sequence[Microseconds], oldest_age: Microseconds) -> list[Reading]:
    """Return the readings, each with its time. Raises Refused with each time that is wrong."""
    readings: list[Reading] = []
    faults: list[Fault] = []
    for position, (new, received_at) in enumerate(zip(given.readings, received, strict=True)):
        try:
            moment = _recorded_at(new.timestamp, received_at, oldest_age)
        except ValueError as error:
            faults.append(Fault(given.field(position, "timestamp"), str(error)))
        else:
            readings.append(Reading(new.device_id, moment, received_at, new.x, new.y, new.z))
    if faults:
        raise invalid(*faults)
    return readings


def _recorded_at(timestamp: datetime | float | None, now: Microseconds, oldest_age: Microseconds) -> Microseconds:
    if timestamp is None:
        return now
    return recorded_at(in_utc(timestamp) if isinstance(timestamp, datetime) else timestamp, now, oldest_age)


_KNOWN = "SELECT id FROM devices WHERE id = ANY(%s)"


async def _unknown_devices(connection: Connection, given: Submission) -> Refused:
    """Return the refusal of readings of unknown devices."""
    given_ids = [new.device_id for new in given.readings if is_id(new.device_id)]
    known = {row[0] for row in await (await connection.execute(_KNOWN, (given_ids,))).fetchall()}
    faults = [
        Fault(given.field(position, "device_id"), f"there is no device {new.device_id}")
        for position, new in enumerate(given.readings)
        if new.device_id not in known
    ]
    detail = faults[0].detail if faults else "a device was registered only after the request"
    return Refused(problems.UNKNOWN_DEVICE, f"{detail}: POST /devices registers one, GET /devices lists them", faults)
