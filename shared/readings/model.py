"""Records that several packages use.

A time in the program is a whole number of microseconds since 1970-01-01 UTC, the resolution of PostgreSQL:
`Microseconds`. It is converted to a datetime only for the driver and for messages.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec

Microseconds = int

SECOND: Microseconds = 1_000_000
DAY: Microseconds = 86_400 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

KEY_PATTERN = r"^[^/+#\s\x00-\x1f\x7f-\x9f]{1,128}\Z"
"""A device's key: one level of a topic, 1 to 128 characters, no space, no wildcard, no control character."""
DEVICES_CHANNEL = "devicestat_devices"
"""Channel of registrations. The payload is the key of the device."""
_is_key = re.compile(KEY_PATTERN).match


def is_key(text: str) -> bool:
    """Return whether the text can be the key of a device."""
    return _is_key(text) is not None


def to_microseconds(moment: datetime) -> Microseconds:
    """Return a time with an offset in microseconds since 1970."""
    return (moment - EPOCH) // _MICROSECOND


def to_datetime(moment: Microseconds) -> datetime:
    """Return the time as a datetime in UTC."""
    return EPOCH + timedelta(microseconds=moment)


def duration(length: timedelta) -> Microseconds:
    """Return the length of time in microseconds."""
    return length // _MICROSECOND


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One reading of one device, as it is stored."""

    device_id: int
    recorded_at: Microseconds
    received_at: Microseconds
    x: float
    y: float
    z: float


class Reason(StrEnum):
    """Reason of a refusal: the `reason` of a dead letter, and a label of the rejected count."""

    BAD_TOPIC = "bad_topic"
    MALFORMED = "malformed"
    INVALID_READING = "invalid_reading"
    OUT_OF_RANGE = "out_of_range"
    BAD_TIMESTAMP = "bad_timestamp"
    TOO_LARGE = "too_large"
    UNKNOWN_DEVICE = "unknown_device"
    DATABASE_REFUSED = "database_refused"


class ElementFault(msgspec.Struct, frozen=True, gc=False):
    """The refusal of one element of a message. `index`: its index in the array; None: the whole message."""

    index: int | None
    reason: Reason
    detail: str


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message with refused readings, and the data to replay them.

    `step`: microseconds between the times of receipt of one element and the next, from `received_at` on.
    `payload`: the payload or, if it is too large, its beginning.
    `payload_bytes`: the length of the whole payload.
    `reasons`: the number of refused readings by reason, in the order in which the reasons occurred.
    `faults`: the first faults, and the first fault of each reason.
    `refused`: the indexes of the refused elements, as a bitmap (`shared.dead_letters.bitmap`); None: all of them.
    """

    received_at: Microseconds
    step: Microseconds
    topic: str
    content_type: str | None
    payload: bytes
    payload_bytes: int
    reasons: Mapping[Reason, int]
    faults: Sequence[ElementFault]
    refused: bytes | None = None

    @property
    def readings(self) -> int:
        """The number of refused readings."""
        return sum(self.reasons.values())

    @property
    def reason(self) -> Reason:
        """The most frequent reason; of equally frequent ones, the first."""
        return most_frequent(self.reasons)

    @property
    def detail(self) -> str:
        """The detail of the first fault with that reason."""
        return next((fault.detail for fault in self.faults if fault.reason == self.reason), "")


def most_frequent(reasons: Mapping[Reason, int]) -> Reason:
    """Return the most frequent reason; of equally frequent ones, the first."""
    return max(reasons, key=lambda reason: reasons[reason])
