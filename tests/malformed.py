"""PUBLISH packets that no client library writes. Layout: MQTT 5.0, section 3.3."""

import struct

READING = b'{"x":1,"y":2,"z":3}'


def field(text: bytes) -> bytes:
    """Return any bytes as a text, with its length."""
    return struct.pack(">H", len(text)) + text


def user_property(name: bytes, value: bytes) -> bytes:
    """Return a user property of any bytes."""
    return b"\x26" + field(name) + field(value)


def publish(
    topic: bytes = b"devices/1/stats", payload: bytes = READING, properties: bytes = b"", packet_id: int = 7
) -> bytes:
    """Return a PUBLISH at QoS 1."""
    body = field(topic) + struct.pack(">H", packet_id) + _length(len(properties)) + properties + payload
    return b"\x32" + _length(len(body)) + body


def _length(value: int) -> bytes:
    """Return a variable byte integer (section 1.5.5)."""
    encoded = b""
    while True:
        value, low = divmod(value, 128)
        encoded += bytes([low | (0x80 if value else 0)])
        if not value:
            return encoded
