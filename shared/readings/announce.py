"""Notifications between the processes that store readings and the API processes with live streams.

An API process with live streams publishes their devices on WANTED_CHANNEL every REPEAT_S. A process that stores
readings of these devices publishes a `Span`, their location, on STORED_CHANNEL in the same transaction. So a reading
without subscribers costs nothing. A reading with subscribers is read once, by index.

A process that just subscribed does not know yet which devices are wanted, so it announces every batch.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Annotated

import msgspec
import numpy as np
import structlog
from psycopg import Notify

from shared.postgres.connections import Connection
from shared.readings.model import SECOND, Microseconds, Reading
from shared.readings.rows import Rows

WANTED_CHANNEL = "devicestat_live_wanted"
"""The payload of NOTIFY: the devices that have subscribers, as a JSON array of ids."""
STORED_CHANNEL = "devicestat_live"
"""The payload of NOTIFY: a Span of stored readings, as a JSON array."""
REPEAT_S = 5.0
"""The interval at which an API process publishes the devices that it wants."""
EXPIRES_S = 3 * REPEAT_S + 1
"""A device that is not published again within this time is no longer wanted."""
ANY_DEVICE = 0
"""In a Span: readings of any devices."""
MAX_IDS = 390
"""Ids in one NOTIFY: its payload is shorter than 8,000 bytes, and an id has up to 19 digits."""
MAX_SPANS = 20
"""The most spans of one device in one batch."""
APART: Microseconds = 60 * SECOND
"""Readings at least this far apart are in separate spans: the readings between them are not read."""

_Moment = Annotated[Microseconds, msgspec.Meta(ge=0, le=253_402_300_799_999_999)]  # the end of the year 9999
_log = structlog.get_logger()


class Span(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where to find stored readings: the device, and the ranges of their times of measurement and of receipt."""

    device_id: Annotated[int, msgspec.Meta(ge=ANY_DEVICE, le=2**63 - 1)]
    first: _Moment
    last: _Moment
    received_first: _Moment
    received_last: _Moment


_decode_span = msgspec.json.Decoder(Span).decode
_decode_ids = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]]).decode


def parse_span(payload: str) -> Span | None:
    """Parse a payload of STORED_CHANNEL. Return None if it is malformed."""
    try:
        return _decode_span(payload)
    except msgspec.DecodeError as error:
        _log.warning("malformed notification", channel=STORED_CHANNEL, reason=str(error))
        return None


def parse_wanted(payload: str) -> list[int]:
    """Parse a payload of WANTED_CHANNEL. Return no devices if it is malformed."""
    try:
        return _decode_ids(payload)
    except msgspec.DecodeError as error:
        _log.warning("malformed notification", channel=WANTED_CHANNEL, reason=str(error))
        return []


def spans(device_id: int, readings: Iterable[Reading]) -> Iterator[Span]:
    """Yield a few spans that contain the readings, split at the widest gaps between them."""
    columns = Rows.of(readings).columns()
    columns = columns[np.argsort(columns["recorded_at"])]
    recorded, received = columns["recorded_at"], columns["received_at"]
    gaps = np.diff(recorded)
    widest = np.argsort(gaps, kind="stable")[1 - MAX_SPANS :]
    cuts = np.sort(widest[gaps[widest] >= APART]) + 1
    for begin, end in pairwise([0, *cuts.tolist(), len(columns)]):
        if begin < end:
            within = received[begin:end]
            first, last = recorded[begin], recorded[end - 1]
            yield Span(device_id, int(first), int(last), int(within.min()), int(within.max()))


class Interest:
    """The devices that have subscribers, as far as this process was notified. It is false while there are none."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        known_after_s: float = REPEAT_S + 1,
        expires_s: float = EXPIRES_S,
    ) -> None:
        self._clock = clock
        self._known_after_s = known_after_s
        self._expires_s = expires_s
        self._wanted: dict[int, float] = {}  # expiry by device
        self._knows_at: float | None = None  # None: the devices are known

    def __bool__(self) -> bool:
        return bool(self._wanted) or self._knows_at is not None

    async def listen(self, connection: Connection) -> None:
        """Subscribe over the connection."""
        connection.add_notify_handler(self._on_notify)
        await connection.execute(_LISTEN)
        self.begin()

    def _on_notify(self, notify: Notify) -> None:
        if notify.channel == WANTED_CHANNEL:
            self.add(parse_wanted(notify.payload))

    def begin(self) -> None:
        """Start: the devices are known once every API process has had to publish them again."""
        self._knows_at = self._clock() + self._known_after_s

    def add(self, devices: Iterable[int]) -> None:
        """Record that these devices have subscribers."""
        until = self._clock() + self._expires_s
        self._wanted.update((device_id, until) for device_id in devices)

    def spans(self, readings: Sequence[Reading]) -> list[Span]:
        """Return the spans of those readings that have subscribers, or may have some."""
        now = self._clock()
        if self._knows_at is not None and now < self._knows_at:
            return list(spans(ANY_DEVICE, readings))
        self._knows_at = None
        wanted = self._wanted = {device_id: until for device_id, until in self._wanted.items() if until > now}
        return _by_device(Rows.of(readings).of_devices(wanted))


def _by_device(readings: Rows) -> list[Span]:
    return [span for device_id, own in readings.by_device() for span in spans(device_id, own)]


_LISTEN = f"LISTEN {WANTED_CHANNEL}"
_NOTIFY = "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload"


async def announce(connection: Connection, interest: Interest, readings: Sequence[Reading]) -> None:
    """Publish the spans of the readings with subscribers, in the transaction that stores them or right after it.

    Some of the readings may have been stored before, or refused. A stream sends only readings that it finds.
    """
    if interest:
        await _publish(connection, interest.spans(readings))


async def announce_all(connection: Connection, readings: Iterable[Reading]) -> None:
    """Publish the spans of the readings, for any subscribers."""
    await _publish(connection, _by_device(Rows.of(readings)))


async def _publish(connection: Connection, found: Sequence[Span]) -> None:
    if found:
        payloads = [msgspec.json.encode(span).decode() for span in found]
        await connection.execute(_NOTIFY, (STORED_CHANNEL, payloads))


async def want(connection: Connection, devices: Sequence[int]) -> None:
    """Publish that these devices have subscribers."""
    chunks = (devices[at : at + MAX_IDS] for at in range(0, len(devices), MAX_IDS))
    payloads = [msgspec.json.encode(chunk).decode() for chunk in chunks]
    await connection.execute(_NOTIFY, (WANTED_CHANNEL, payloads))
