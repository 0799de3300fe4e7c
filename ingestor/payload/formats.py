"""The decoders of the two encodings that a payload may have. Pure."""

from datetime import datetime
from functools import cache
from typing import Annotated, Any

import msgspec

from shared.readings.model import AXIS_LIMIT

MAX_READINGS = 10_000
"""In one array."""

Axis = Annotated[float, msgspec.Meta(ge=-AXIS_LIMIT, le=AXIS_LIMIT)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)] | float


class Sample(msgspec.Struct, gc=False):
    """A reading as it is sent."""

    x: Axis
    y: Axis
    z: Axis
    timestamp: Moment | None = None


class Fields(msgspec.Struct, gc=False):
    """The fields of what should be a reading, not decoded."""

    x: msgspec.Raw = msgspec.Raw()
    y: msgspec.Raw = msgspec.Raw()
    z: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()


FIELDS = Fields.__struct_fields__


class _Object(msgspec.Struct):
    """Any object: its fields are passed over."""


class _Array(msgspec.Struct, array_like=True):
    """Any array: its elements are passed over."""


class Format(msgspec.Struct, frozen=True):
    """The decoders of one encoding."""

    name: str
    one: Any
    many: Any
    elements: Any
    fields: Any
    anything: Any
    object: Any
    array: Any


JSON = Format(
    "JSON",
    msgspec.json.Decoder(Sample),
    msgspec.json.Decoder(list[Sample]),
    msgspec.json.Decoder(list[msgspec.Raw]),
    msgspec.json.Decoder(Fields),
    msgspec.json.Decoder(float_hook=float),  # 1e999 is then infinite, and can be named out of range
    msgspec.json.Decoder(_Object),
    msgspec.json.Decoder(_Array),
)
MESSAGE_PACK = Format(
    "MessagePack",
    msgspec.msgpack.Decoder(Sample),
    msgspec.msgpack.Decoder(list[Sample]),
    msgspec.msgpack.Decoder(list[msgspec.Raw]),
    msgspec.msgpack.Decoder(Fields),
    msgspec.msgpack.Decoder(),
    msgspec.msgpack.Decoder(_Object),
    msgspec.msgpack.Decoder(_Array),
)

UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError)
"""What the decoders raise: ValueError for text in MessagePack that is not UTF-8, and for endless integers."""


def holds_too_many(array: bytes) -> bool:
    """Whether a JSON array has more than MAX_READINGS elements, each of any kind.

    The decoder stops after those, and decodes none of them. It takes about half a millisecond.
    """
    try:
        _bounded().decode(array)
    except msgspec.ValidationError:
        return True
    except UNREADABLE:
        return False  # the full decoder says what is wrong
    return False


@cache
def _bounded() -> Any:
    """A decoder of arrays of at most MAX_READINGS elements of any kind. Making it takes 20 ms."""
    elements = [(f"e{number}", msgspec.Raw, msgspec.Raw()) for number in range(MAX_READINGS)]
    bounded = msgspec.defstruct("_Bounded", elements, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(bounded)
