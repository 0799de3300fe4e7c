"""How a payload is encoded, and what is taken off it before it is decoded. Pure."""

from shared.encodings import BOM, wide_encoding

MSGPACK = "application/msgpack"


def is_msgpack(payload: bytes, content_type: str | None) -> bool:
    """Whether the payload is MessagePack: by its content type, or by a first byte that JSON cannot have."""
    return content_type == MSGPACK or (payload[:1] >= b"\x80" and not payload.startswith(BOM))


def plain(payload: bytes) -> bytes:
    """Return JSON without what devices in C send around it: a byte order mark in front, NULs at the end."""
    if payload.endswith(b"\0") or payload.startswith(BOM):
        return payload.removeprefix(BOM).rstrip(b"\0")
    return payload


def named(payload: bytes, content_type: str | None) -> str | None:
    """Return what is wrong with a malformed payload as a whole, where that can be told."""
    wide = None if content_type == MSGPACK else wide_encoding(payload)
    return wide and f"the payload is {wide}: send UTF-8"
