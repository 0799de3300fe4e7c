"""Encodings that a device may send instead of UTF-8 without a byte order mark."""

import codecs

BOM = codecs.BOM_UTF8
BYTE_ORDER_MARKS = (BOM, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Byte order marks. That of little-endian UTF-32 begins with that of little-endian UTF-16."""

_BOMS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_ZEROS = {
    (True, True, True, False): "UTF-32",
    (False, True, True, True): "UTF-32",
    (True, False, True, False): "UTF-16",
    (False, True, False, True): "UTF-16",
}


def wide_encoding(data: bytes) -> str | None:
    """Return "UTF-16" or "UTF-32" if JSON is in this encoding, else None.

    It is detected by a byte order mark, or by the zeros in its first four bytes, as JSON begins with ASCII (RFC 4627,
    section 3).
    """
    if len(data.rstrip(b"\0")) < 4:
        return None
    for bom, name in _BOMS:
        if data.startswith(bom):
            return name
    first, second, third, fourth = (byte == 0 for byte in data[:4])
    return _ZEROS.get((first, second, third, fourth))
