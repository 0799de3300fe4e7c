"""What a payload looks like that cannot be decoded as it is. Pure."""

import re

from shared.readings.encodings import BOM, wide_encoding

_BOMS = re.compile(b"\\A(?:" + BOM + b")+")


def plain(payload: bytes) -> bytes:
    """Return JSON without what devices in C send around it: byte order marks in front, NULs at the end."""
    return _BOMS.sub(b"", payload.rstrip(b"\0"), count=1)


def named(payload: bytes) -> str | None:
    """Return what is wrong with a malformed payload as a whole, where that can be told."""
    wide = wide_encoding(payload)
    return wide and f"the payload is {wide}: send UTF-8"
