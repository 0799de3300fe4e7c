"""MessagePack payloads (https://github.com/msgpack/msgpack/blob/master/spec.md). Pure."""

import msgspec

from ingestor.payload.formats import AnyArray, AnyObject, Fields, PayloadFormat, Sample, check_count
from shared.encodings import BYTE_ORDER_MARKS


def _matches(payload: bytes) -> bool:
    """Maps and arrays begin with a byte of 0x80 or above, which is not ASCII."""
    return payload[:1] >= b"\x80" and not payload.startswith(BYTE_ORDER_MARKS)


def _is_array(payload: bytes) -> bool:
    first = payload[:1]  # fixarray, array 16, array 32
    return b"\x90" <= first <= b"\x9f" or first in (b"\xdc", b"\xdd")


def _check_length(payload: bytes, _: bool) -> None:
    """Check the count that precedes the elements. A payload can contain two million small elements."""
    first = payload[0]
    if first < 0xA0:
        check_count(first & 0x0F)
    else:
        check_count(int.from_bytes(payload[1:3] if first == 0xDC else payload[1:5], "big"))


MESSAGE_PACK = PayloadFormat(
    name="MessagePack",
    content_type="application/msgpack",
    one=msgspec.msgpack.Decoder(Sample),
    many=msgspec.msgpack.Decoder(list[Sample]),
    elements=msgspec.msgpack.Decoder(list[msgspec.Raw]),
    fields=msgspec.msgpack.Decoder(Fields),
    anything=msgspec.msgpack.Decoder(),
    object=msgspec.msgpack.Decoder(AnyObject),
    array=msgspec.msgpack.Decoder(AnyArray),
    matches=_matches,
    is_array=_is_array,
    check_length=_check_length,
)
