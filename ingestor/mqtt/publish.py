"""A minimal parser of PUBLISH, for packets that the codec refuses. Layout: MQTT 5.0, section 3.3. Pure."""

import struct
from collections.abc import Iterator

import msgspec

DUPLICATE, QOS = 0x08, 0x06
"""Bits of the flags."""
AT_LEAST_ONCE = 0x02
_MAX_LENGTH_BYTES = 4

CONTENT_TYPE = 0x03
_USER_PROPERTY = 0x26
_TEXTS = {CONTENT_TYPE: "the content type", 0x08: "the response topic", _USER_PROPERTY: "a user property"}
_CORRELATION_DATA, _SUBSCRIPTION_IDENTIFIER = 0x09, 0x0B
_FIXED_SIZES = {0x01: 1, 0x02: 4, 0x23: 2}
"""Sizes in bytes of payload format indicator, message expiry interval and topic alias (section 3.3.2.3)."""


class MalformedPacket(Exception):
    """The broker sent bytes that are not an MQTT 5 packet, or an unexpected packet."""


class Publish(msgspec.Struct, frozen=True):
    """The parts of a PUBLISH."""

    flags: int
    topic: bytes
    packet_id: int | None
    texts: list[tuple[int, bytes]]
    payload: bytes
    size: int

    @property
    def content_type(self) -> bytes | None:
        """The content type; None if there is none or the properties are malformed."""
        return next((text for identifier, text in self.texts if identifier == CONTENT_TYPE), None)

    @property
    def is_duplicate(self) -> bool:
        """Whether DUP is set."""
        return bool(self.flags & DUPLICATE)

    @property
    def ill_formed(self) -> str:
        """Name of the first text that is not UTF-8; empty if there is none."""
        if not _is_utf8(self.topic):
            return "the topic"
        return next((_TEXTS[identifier] for identifier, text in self.texts if not _is_utf8(text)), "")


def split(data: memoryview) -> Publish:
    """Parse the PUBLISH at the beginning of the data, which begins with its fixed header.

    If the properties are malformed, all bytes after the packet id are the payload.
    Raises IndexError if the packet is incomplete, and MalformedPacket if it cannot be acknowledged.
    """
    flags = data[0]
    length, start = _variable_length(data, 1)
    size = start + length
    if size > len(data):
        raise IndexError("the packet is not complete")
    quality = flags & QOS
    if quality > AT_LEAST_ONCE:
        raise MalformedPacket("a PUBLISH with a QoS that was not requested")
    try:
        return _cut(flags, bytes(data[start:size]), size, has_id=quality == AT_LEAST_ONCE)
    except (IndexError, struct.error) as error:
        raise MalformedPacket("a PUBLISH that is too short for its topic and packet id") from error


def _cut(flags: int, body: bytes, size: int, *, has_id: bool) -> Publish:
    topic, at = _field(body, 0)
    packet_id = None
    if has_id:
        (packet_id,) = struct.unpack_from(">H", body, at)
        at += 2
    try:
        length, start = _variable_length(body, at)
        end = start + length
        texts = list(_texts(body[start:end])) if end <= len(body) else None
    except (IndexError, struct.error, MalformedPacket):
        texts = None
    if texts is None:  # the properties are malformed
        return Publish(flags, topic, packet_id, [], body[at:], size)
    return Publish(flags, topic, packet_id, texts, body[end:], size)


def _texts(properties: bytes) -> Iterator[tuple[int, bytes]]:
    """Return each text among the properties with the property's identifier."""
    at = 0
    while at < len(properties):
        identifier = properties[at]
        at += 1
        if identifier in _TEXTS:
            for _ in range(2 if identifier == _USER_PROPERTY else 1):
                text, at = _field(properties, at)
                yield identifier, text
        elif identifier == _CORRELATION_DATA:
            _, at = _field(properties, at)
        elif identifier == _SUBSCRIPTION_IDENTIFIER:
            _, at = _variable_length(properties, at)
        elif identifier in _FIXED_SIZES:
            at += _FIXED_SIZES[identifier]
        else:
            raise MalformedPacket(f"no property of a PUBLISH has the identifier {identifier}")


def _field(data: bytes, at: int) -> tuple[bytes, int]:
    """Return a length-prefixed field, and its end (section 1.5.4)."""
    (length,) = struct.unpack_from(">H", data, at)
    end = at + 2 + length
    if end > len(data):
        raise IndexError("it ends beyond the packet")
    return data[at + 2 : end], end


def _variable_length(data: memoryview | bytes, at: int) -> tuple[int, int]:
    """Return a variable byte integer, and its end (section 1.5.5)."""
    value = 0
    for index in range(_MAX_LENGTH_BYTES):
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise MalformedPacket("a length of more than four bytes")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
