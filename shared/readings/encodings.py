"""What a device may send in place of plain UTF-8."""

import codecs

BOM = codecs.BOM_UTF8
BYTE_ORDER_MARKS = (BOM, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Those of text whose first byte is above 0x7F; that of little-endian UTF-32 begins with the second."""

_BOMS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # which begins as that of UTF-16 does
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
    """Return "UTF-16" or "UTF-32" where JSON is encoded so, else None.

    By its byte order mark, or by the zeros among its first four bytes: JSON begins with ASCII (RFC 4627, section 3).
    """
    if len(data.rstrip(b"\0")) < 4:
        return None
    for bom, name in _BOMS:
        if data.startswith(bom):
            return name
    first, second, third, fourth = (byte == 0 for byte in data[:4])
    return _ZEROS.get((first, second, third, fourth))
