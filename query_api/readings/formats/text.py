"""CSV and NDJSON, which PostgreSQL writes, except for the digits of the timestamps.

A number has a decimal point, and a timestamp has six fractional digits, as clients infer the type of a column from its
first values. PostgreSQL writes 1 for 1.0, and 1e-07 for 1.0e-07. Its to_char takes a third of the time of a line. So
PostgreSQL writes the binary value of the timestamp in hexadecimal digits, and `TimestampEncoder` writes those of the
time in their place.
"""

import binascii
from collections.abc import Callable
from typing import LiteralString
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from query_api.calendar.zones import offsets
from query_api.readings.formats.format import Encode, StreamFormat
from shared.readings.binary_copy import TIMESTAMPTZ, microseconds

_PARTS = [
        ("date", "S10"), ("T", "S1"), ("hour", "S2"), ("colon", "S1"), ("minute", "S2"), ("colon2", "S1"),
        ("second", "S2"), ("point", "S1"), ("us10000", "S2"), ("us100", "S2"), ("us", "S2"),
]  # fmt: skip
_STAMP = np.dtype([*_PARTS, ("Z", "S1")])
"""The parts of a timestamp, such as 2026-01-31T12:00:00.000000Z."""
_ZONED = np.dtype([*_PARTS, ("offset", "S6")])
"""The same with an offset, such as 2026-01-31T13:00:00.000000+01:00."""
_BLANK = np.frombuffer(b"0000-00-00T00:00:00.000000Z", _STAMP)
_ZONED_BLANK = np.frombuffer(b"0000-00-00T00:00:00.000000+00:00", _ZONED)
_HEX_DIGITS = 16
_TWO_DIGITS = np.array([b"%02d" % number for number in range(100)])
_DAY = 86_400_000_000
_NEWLINE = ord("\n")

_TIMESTAMP = "encode(timestamptz_send(recorded_at), 'hex') || '0123456789Z'"
"""As many bytes as a timestamp has: the hexadecimal digits of its binary value come first."""
_ZONED_TIMESTAMP = "encode(timestamptz_send(recorded_at), 'hex') || '0123456789+00:00'"
_MINUTE = 60_000_000


class TimestampEncoder:
    """Writes the timestamps of a text COPY."""

    def __init__(self, header: bytes, behind: int, zone: ZoneInfo | None = None) -> None:
        """`header`: the first line. `behind`: the bytes of a line behind its timestamp, before the newline.

        `zone`: of the timestamps; None: they are in UTC, with Z.
        """
        self._header = header
        self._behind = behind
        self._zone = zone

    async def encode(self, block: bytes, _: bool) -> bytes:
        """Return the block of whole lines with its timestamps. The first block follows the header."""
        header, self._header = self._header, b""
        return header + with_timestamps(block, self._behind, self._zone)


def with_timestamps(block: bytes, behind: int, zone: ZoneInfo | None = None) -> bytes:
    """Return the lines with the time in place of its hexadecimal digits, `behind` bytes before each newline."""
    text = bytearray(block)
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == _NEWLINE)
    if len(ends) == 0:
        return block
    size = (_STAMP if zone is None else _ZONED).itemsize
    places = ends - behind - size
    digits = _every(text, np.dtype(("S", _HEX_DIGITS)))[places].tobytes()
    moments = microseconds(np.frombuffer(binascii.unhexlify(digits), TIMESTAMPTZ))
    as_bytes = np.dtype(("V", size))  # numpy copies these at once, and a structure field by field
    stamps = _stamps(moments, _BLANK) if zone is None else _zoned_stamps(moments, zone)
    _every(text, as_bytes)[places] = stamps.view(as_bytes)
    return bytes(text)


def _every(text: bytearray, kind: np.dtype[np.void]) -> NDArray[np.void]:
    """Return the text as overlapping values of this type: one that begins at each byte."""
    return np.ndarray(len(text) - kind.itemsize + 1, kind, text, strides=(1,))


def _zoned_stamps(moments: NDArray[np.int64], zone: ZoneInfo) -> NDArray[np.void]:
    """Return the timestamps of these microseconds since 1970, in the zone with its offset."""
    minutes = offsets(moments, zone)
    stamps = _stamps(moments + minutes * _MINUTE, _ZONED_BLANK)
    distinct, which = np.unique(minutes, return_inverse=True)
    stamps["offset"] = np.array([_offset(minute) for minute in distinct.tolist()])[which]
    return stamps


def _offset(minutes: int) -> bytes:
    hours, rest = divmod(abs(minutes), 60)
    return b"%b%02d:%02d" % (b"-" if minutes < 0 else b"+", hours, rest)


def _stamps(moments: NDArray[np.int64], blank: NDArray[np.void]) -> NDArray[np.void]:
    """Return the timestamps of these microseconds since 1970, in copies of the blank one."""
    days, within = np.divmod(moments, _DAY)
    seconds, fraction = np.divmod(within, 1_000_000)
    stamps = np.repeat(blank, len(moments))
    stamps["date"] = _dates(days)
    for part, number in (
        ("hour", seconds // 3600), ("minute", seconds // 60 % 60), ("second", seconds % 60),
        ("us10000", fraction // 10_000), ("us100", fraction // 100 % 100), ("us", fraction % 100),
    ):  # fmt: skip
        stamps[part] = _TWO_DIGITS[number]
    return stamps


def _dates(days: NDArray[np.int64]) -> NDArray[np.bytes_]:
    """Return the dates of these days since 1970. Each date of a run of equal days is written once."""
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    written = np.datetime_as_string(days[starts].astype("datetime64[D]")).astype("S10")
    return np.repeat(written, np.diff(starts, append=len(days)))


def _encoder(header: bytes, behind: int) -> Callable[[ZoneInfo | None], Encode]:
    return lambda zone: TimestampEncoder(header, behind, zone).encode


# float8out writes a decimal point in a number of at least 0.0001 that is not an integer.
_X, _Y, _Z = (
    f"""CASE WHEN {axis} = trunc({axis}) THEN {axis}::text || '.0' WHEN abs({axis}) >= 1e-4 THEN {axis}::text
             WHEN strpos({axis}::text, '.') > 0 THEN {axis}::text ELSE replace({axis}::text, 'e', '.0e') END"""
    for axis in ("x", "y", "z")
)
_CSV: LiteralString = f"id, device_id, {_X}, {_Y}, {_Z}, "
CSV = StreamFormat(
    name="csv",
    media_type="text/csv",
    file_suffix="csv",
    description="A header line, then a line for each reading.",
    is_text=True,
    columns=_CSV + _TIMESTAMP,
    zoned_columns=_CSV + _ZONED_TIMESTAMP,
    options=" (FORMAT csv)",
    encoder=_encoder(b"id,device_id,x,y,z,timestamp\n", 0),
)
_OPEN: LiteralString = """',"device_id":' || %(device_id)s || ',"x":'"""  # a constant for PostgreSQL
# COPY's text format doubles a backslash. JSON of numbers and times has none. concat() takes longer than ||.
_NDJSON: LiteralString = f"""
    '{{"id":' || id || ({_OPEN}) || {_X} || ',"y":' || {_Y} || ',"z":' || {_Z} || ',"timestamp":"' ||
"""
_CLOSE: LiteralString = """ || '"}'"""
NDJSON = StreamFormat(
    name="ndjson",
    media_type="application/x-ndjson",
    file_suffix="ndjson",
    description="A line of JSON for each reading.",
    is_text=True,
    columns=_NDJSON + _TIMESTAMP + _CLOSE,
    zoned_columns=_NDJSON + _ZONED_TIMESTAMP + _CLOSE,
    encoder=_encoder(b"", len(b'"}')),
)
