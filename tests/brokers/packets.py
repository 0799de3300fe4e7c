"""MQTT 5 packets of a QoS 1 client, without the product's codec."""

from collections.abc import Iterator

import msgspec

CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 11, 13, 14
"""Packet types (MQTT 5.0, section 2.1.2)."""
PINGREQ = b"\xc0\x00"
_ONE_BYTE = frozenset({0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A})
_TWO_BYTES = frozenset({0x13, 0x21, 0x22, 0x23})
_FOUR_BYTES = frozenset({0x02, 0x11, 0x18, 0x27})
SESSION_EXPIRY, RECEIVE_MAXIMUM, MAXIMUM_QOS, MAXIMUM_PACKET_SIZE, SHARED_SUBSCRIPTIONS = 0x11, 0x21, 0x24, 0x27, 0x2A
"""Properties of CONNACK (section 3.2.2.3)."""

_NUMBER_BYTES = 4
_NUMBER = b"\x26\x00\x06number" + (2 * _NUMBER_BYTES).to_bytes(2)
"""A user property (section 3.3.2.3.7) before its value, which is hexadecimal."""


class Delivery(msgspec.Struct, frozen=True):
    """A PUBLISH from the broker. `number`: the argument of `publish`."""

    packet_id: int
    dup: bool
    topic: str
    payload: bytes
    number: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """A CONNACK: its reason code, whether the session was present, and its numeric properties."""

    reason: int
    session_present: bool
    properties: dict[int, int]


def connect(client_id: str, *, clean: bool, receive_maximum: int, login: tuple[str, str] | None) -> bytes:
    """Return CONNECT with a session expiry of an hour and a keep-alive of a minute."""
    flags = 0x02 * clean + (0xC0 if login else 0)
    properties = b"\x11" + (3600).to_bytes(4) + b"\x21" + receive_maximum.to_bytes(2)
    body = _text("MQTT") + bytes([5, flags]) + (60).to_bytes(2) + _length(len(properties)) + properties
    return _packet(0x10, body + b"".join(map(_text, (client_id, *(login or ())))))


def subscribe(packet_id: int, topic: str) -> bytes:
    """Return SUBSCRIBE at QoS 1."""
    return _packet(0x82, packet_id.to_bytes(2) + b"\x00" + _text(topic) + b"\x01")


def unsubscribe(packet_id: int, topic: str) -> bytes:
    """UNSUBSCRIBE."""
    return _packet(0xA2, packet_id.to_bytes(2) + b"\x00" + _text(topic))


def publish(packet_id: int, topic: str, payload: bytes, number: int | None = None) -> bytes:
    """Return PUBLISH at QoS 1. `number` distinguishes equal payloads. It is a user property, which brokers forward."""
    properties = b"" if number is None else _NUMBER + number.to_bytes(_NUMBER_BYTES).hex().encode()
    return _packet(0x32, _text(topic) + packet_id.to_bytes(2) + _length(len(properties)) + properties + payload)


def acknowledge(packet_id: int) -> bytes:
    """PUBACK."""
    return b"\x40\x02" + packet_id.to_bytes(2)


def split(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Remove complete packets from the front of the buffer; return the first byte and the body of each."""
    start = 0
    while (found := _read_length(buffer, start + 1)) is not None:
        size, body = found
        if body + size > len(buffer):
            break
        yield buffer[start], bytes(buffer[body : body + size])
        start = body + size
    del buffer[:start]


def read_publish(first: int, body: bytes) -> Delivery:
    """Parse a PUBLISH; its packet id is 0 at QoS 0."""
    at = 2 + int.from_bytes(body[:2])
    topic = body[2:at].decode()
    packet_id = 0
    if first & 0x06:
        packet_id, at = int.from_bytes(body[at : at + 2]), at + 2
    size, at = _read_length(body, at) or (0, at)
    return Delivery(packet_id, bool(first & 0x08), topic, body[at + size :], _number(body[at : at + size]))


def _number(properties: bytes) -> int | None:
    at = properties.find(_NUMBER)
    return int(properties[at + len(_NUMBER) :][: 2 * _NUMBER_BYTES], 16) if at >= 0 else None


def read_connack(body: bytes) -> Answer:
    """A CONNACK."""
    return Answer(body[1], bool(body[0] & 1), dict(_properties(body[2:])))


def _properties(data: bytes) -> Iterator[tuple[int, int]]:
    size, at = _read_length(data, 0) or (0, 0)
    end = at + size
    while at < end:
        kind, at = data[at], at + 1
        width = 1 if kind in _ONE_BYTE else 2 if kind in _TWO_BYTES else 4 if kind in _FOUR_BYTES else 0
        if width:
            yield kind, int.from_bytes(data[at : at + width])
            at += width
        else:  # one text or binary; user properties have two
            for _ in range(2 if kind == 0x26 else 1):
                at += 2 + int.from_bytes(data[at : at + 2])


def _packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + _length(len(body)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2) + data


def _length(number: int) -> bytes:
    """Return a variable byte integer (section 1.5.5)."""
    data = bytearray()
    while True:
        number, low = divmod(number, 128)
        data.append(low | (0x80 if number else 0))
        if not number:
            return bytes(data)


def _read_length(data: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """Return the number and its end; None if it is incomplete."""
    number = 0
    for place, byte in enumerate(data[start : start + 4]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, start + place + 1
    return None
