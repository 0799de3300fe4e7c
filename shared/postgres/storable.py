"""Escaping of text that PostgreSQL cannot store: `text` accepts neither U+0000 nor bytes that are not UTF-8.

Each such byte is written as `#` and two hexadecimal digits: the byte 0xFF is `#FF`, a NUL is `#00`. In an escaped text
`#` itself is `#23`, so that `original` can restore it. Any other text is unchanged. `#` cannot occur in the topic of a
message (MQTT-3.3.2-2), nor in a device's key.
"""

import re

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_TO_ESCAPE = re.compile("[\0#\ud800-\udfff]")
_NOT_PLAIN = re.compile("[^ -~]|#")
_ESCAPED = re.compile(b"#([0-9A-F]{2})")


def storable(text: str) -> str:
    """Return the text, escaped if PostgreSQL cannot store it."""
    if not _UNSTORABLE.search(text):
        return text
    return _TO_ESCAPE.sub(_escape, text)


def storable_bytes(data: bytes) -> str:
    """Return bytes that should be UTF-8 as text, escaped if PostgreSQL cannot store it."""
    return storable(data.decode("utf-8", "surrogateescape"))


def ascii_only(text: str) -> str:
    """Return the text with everything but printable ASCII escaped, so that any encoding can store it."""
    return _NOT_PLAIN.sub(_escape, text)


def original(escaped: str) -> bytes:
    """Return the bytes of a text that `storable` or `storable_bytes` has escaped."""
    return _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), escaped.encode())


def _escape(match: re.Match[str]) -> str:
    is_byte = "\udc80" <= match[0] <= "\udcff"  # the replacement of "surrogateescape" for a byte that is not UTF-8
    data = match[0].encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"#{byte:02X}" for byte in data)
