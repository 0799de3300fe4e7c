"""Formats of payloads: what each has, and the records that its decoders make. Pure.

A format is one file that makes a `Format`, and one entry in `decode.FORMATS`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ingestor.payload.measurements import Refused
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
    """The fields of an object that should be a reading, not decoded."""

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
"""What the decoders raise: ValueError for text in MessagePack that is not UTF-8, and for endless integers."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """A format of payloads.

    `content_type`: the content type that names it; None: only the payload tells. `has_nan`: a number may be NaN.
    """

    name: str
    content_type: str | None = None
    has_nan: bool = True
    one: Any
    """Decoder of a Sample. Each decoder raises what UNREADABLE names."""
    many: Any
    """Decoder of list[Sample]."""
    elements: Any
    """Decoder of an array into a list of its elements, of which `one` decodes each."""
    fields: Any
    """Decoder of Fields, of which `anything` decodes each."""
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
    """Raise Refused for a payload that is not to be decoded."""
    check_length: Callable[[bytes, bool], None]
    """Raise Refused for an array that is seen to be too long before it is decoded. True: it should hold readings;
    False: it holds elements of any kind."""


def check_count(count: int) -> None:
    """Raise Refused for an array of no elements, and for one of too many."""
    if count == 0:
        raise Refused(Reason.INVALID_READING, "an empty array holds no reading")
    if count > MAX_READINGS:
        raise Refused(Reason.TOO_LARGE, f"an array of {count}: it holds at most {MAX_READINGS} readings")
