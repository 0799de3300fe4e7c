"""Repair or description of a payload that cannot be decoded as it is. Pure."""

import re

from shared.encodings import BOM, wide_encoding

_BOMS = re.compile(b"\\A(?:" + BOM + b")+")


def plain(payload: bytes) -> bytes:
    """Return the JSON without byte order marks before it and NULs after it, as some devices in C send them."""
    return _BOMS.sub(b"", payload.rstrip(b"\0"), count=1)


def named(payload: bytes) -> str | None:
    """Return a description of the encoding if the payload is not in UTF-8; None if it is unknown."""
    wide = wide_encoding(payload)
    return wide and f"the payload is {wide}: send UTF-8"
