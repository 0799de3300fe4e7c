"""Definition of a payload format, and the records that its decoders return. Pure.

A format is one file with a `PayloadFormat`, and one entry in `decode.FORMATS`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ingestor.payload.measurements import RefusedPayload
from shared.readings.model import Reason
from shared.readings.rules import MAX_READINGS, Axis

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)] | float


class Sample(msgspec.Struct, gc=False):
    """A reading in a payload."""

    x: Axis
    y: Axis
    z: Axis
    timestamp: Timestamp | None = None


class Fields(msgspec.Struct, gc=False):
    """The undecoded fields of an object that should be a reading."""

    x: msgspec.Raw = msgspec.Raw()
    y: msgspec.Raw = msgspec.Raw()
    z: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()


FIELDS = Fields.__struct_fields__


class AnyObject(msgspec.Struct):
    """Any object. Its fields are not decoded."""


class AnyArray(msgspec.Struct, array_like=True):
    """Any array. Its elements are not decoded."""


UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError)
"""Errors of the decoders. ValueError: text in MessagePack that is not UTF-8, or an integer with too many digits."""


class PayloadFormat(msgspec.Struct, frozen=True, kw_only=True):
    """A format of payloads.

    `content_type`: content type of the format; None if only the payload identifies it. `has_nan`: numbers may be NaN.
    """

    name: str
    content_type: str | None = None
    has_nan: bool = True
    one: Any
    """Decoder of a Sample. Each decoder raises the errors in UNREADABLE."""
    many: Any
    """Decoder of list[Sample]."""
    elements: Any
    """Decoder of an array into a list of its elements; `one` decodes each element."""
    fields: Any
    """Decoder of Fields; `anything` decodes each field."""
    anything: Any
    """Decoder of any value."""
    object: Any
    """Decoder of AnyObject."""
    array: Any
    """Decoder of AnyArray."""
    matches: Callable[[bytes], bool]
    """Return whether a payload without a known content type looks like this format."""
    is_array: Callable[[bytes], bool]
    check: Callable[[bytes], None] = lambda _: None
    """Raise RefusedPayload for a payload that must not be decoded."""
    check_length: Callable[[bytes, bool], None]
    """Raise RefusedPayload if an array is found to be too long before it is decoded. True: it should contain readings;
    False: it contains elements of any kind."""


def check_count(count: int) -> None:
    """Raise RefusedPayload for an empty array, and for an array of too many elements."""
    if count == 0:
        raise RefusedPayload(Reason.INVALID_READING, "the array is empty")
    if count > MAX_READINGS:
        raise RefusedPayload(Reason.TOO_LARGE, f"an array of {count} elements: it has at most {MAX_READINGS}")
