"""Readings shown as they are stored: what those who show them and those who store them tell each other by NOTIFY.

An API process that has listeners says every REPEAT_S on WANTED_CHANNEL which devices they want. Whoever stores
readings of these devices says on STORED_CHANNEL, in the same transaction, where to look for them: a `Span`. So a
reading that nobody listens to costs nothing, and one that somebody listens to is read once, by index.

Who has only begun to hear does not know yet what is wanted, and says of everything where it is.
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
"""NOTIFY on it says that someone listens to these devices: a JSON array of their numbers."""
STORED_CHANNEL = "devicestat_live"
"""NOTIFY on it says where readings are that were stored: a Span as a JSON array."""
REPEAT_S = 5.0
"""What is wanted is said so often."""
EXPIRES_S = 3 * REPEAT_S + 1
"""What is not said again within this time is wanted no longer."""
ANY_DEVICE = 0
"""In a Span: of devices that are not named."""
MAX_NUMBERS = 390
"""In one NOTIFY: its payload is shorter than 8,000 bytes, and a number has up to 19 digits."""
MAX_SPANS = 20
"""Of one device in one batch."""
APART: Microseconds = 60 * SECOND
"""Readings at least so far from each other are looked for one by one: what lies between them is not read."""

_Moment = Annotated[Microseconds, msgspec.Meta(ge=0, le=253_402_300_799_999_999)]  # the end of the year 9999
_log = structlog.get_logger()


class Span(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where stored readings are: of this device, measured from `first` to `last`, and received in that time."""

    device_id: Annotated[int, msgspec.Meta(ge=ANY_DEVICE, le=2**63 - 1)]
    first: _Moment
    last: _Moment
    received_first: _Moment
    received_last: _Moment


_decode_span = msgspec.json.Decoder(Span).decode
_decode_numbers = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]]).decode


def parse_span(payload: str) -> Span | None:
    """What was said on STORED_CHANNEL; None where it makes no sense."""
    try:
        return _decode_span(payload)
    except msgspec.DecodeError as error:
        _log.warning("not understood", channel=STORED_CHANNEL, reason=str(error))
        return None


def parse_wanted(payload: str) -> list[int]:
    """The devices that were named on WANTED_CHANNEL; none where it makes no sense."""
    try:
        return _decode_numbers(payload)
    except msgspec.DecodeError as error:
        _log.warning("not understood", channel=WANTED_CHANNEL, reason=str(error))
        return []


def spans(device_id: int, readings: Iterable[Reading]) -> Iterator[Span]:
    """Where the readings are: few spans, cut where the readings are far apart, at the widest gaps."""
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
    """The devices that someone listens to, as far as was heard. It is false while there are none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wanted: dict[int, float] = {}  # until when
        self._knows_at: float | None = None  # None: it knows

    def __bool__(self) -> bool:
        return bool(self._wanted) or self._knows_at is not None

    async def listen(self, connection: Connection) -> None:
        """From here on it hears what the connection brings."""
        connection.add_notify_handler(self._hear)
        await connection.execute(_LISTEN)
        self.begin()

    def _hear(self, notify: Notify) -> None:
        if notify.channel == WANTED_CHANNEL:
            self.hear(parse_wanted(notify.payload))

    def begin(self) -> None:
        """From here on it hears: what is wanted it knows once all had to say it again."""
        self._knows_at = self._clock() + REPEAT_S + 1

    def hear(self, devices: Iterable[int]) -> None:
        """Someone listens to these."""
        until = self._clock() + EXPIRES_S
        self._wanted.update((device_id, until) for device_id in devices)

    def spans(self, readings: Sequence[Reading]) -> list[Span]:
        """Where those of the readings are that someone listens to, or may listen to."""
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
    """Says where the readings are that someone listens to: in the transaction that stores them, or right after it.

    Some of them may have been there already, or been refused: what is not found is not shown.
    """
    if interest:
        await _say(connection, interest.spans(readings))


async def announce_all(connection: Connection, readings: Iterable[Reading]) -> None:
    """Says where the readings are, whoever may listen."""
    await _say(connection, _by_device(Rows.of(readings)))


async def _say(connection: Connection, found: Sequence[Span]) -> None:
    if found:
        payloads = [msgspec.json.encode(span).decode() for span in found]
        await connection.execute(_NOTIFY, (STORED_CHANNEL, payloads))


async def want(connection: Connection, devices: Sequence[int]) -> None:
    """Says that someone listens to these devices."""
    chunks = (devices[at : at + MAX_NUMBERS] for at in range(0, len(devices), MAX_NUMBERS))
    payloads = [msgspec.json.encode(chunk).decode() for chunk in chunks]
    await connection.execute(_NOTIFY, (WANTED_CHANNEL, payloads))
