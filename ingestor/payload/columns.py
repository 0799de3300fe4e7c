"""Conversion of decoded readings to columns. Pure.

msgspec encodes the readings as MessagePack, in C. Each reading has the same size, so numpy reads the result as a table.
This takes a third of the time of a loop over the readings (ADR 36).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np

from ingestor.payload.formats import Sample
from ingestor.payload.measurements import Column, Measurements
from shared.readings.model import SECOND, Microseconds
from shared.readings.rules import EARLIEST_S, LATEST_S, is_near

FEWEST = 48
"""Number of readings below which a loop is faster. At least 16, for which MessagePack uses a header of three bytes."""

# https://github.com/msgpack/msgpack/blob/master/spec.md. Each value follows its name and the byte of its type. A
# timestamp of whole seconds has four bytes. Any other has eight: nanoseconds in 30 bits, then seconds in 34.
_ARRAY_HEADER_BYTES = 3
_AXES = [("map, x", "V4"), ("x", ">f8"), ("y is", "V3"), ("y", ">f8"), ("z is", "V3"), ("z", ">f8"), ("time is", "V10")]
_NIL, _FLOAT, _WHOLE_SECONDS, _NANOSECONDS = 0xC0, 0xCB, 0xD6FF, 0xD7FF
_TABLES = {
    _NIL: np.dtype([*_AXES, ("type", "u1")]),
    _FLOAT: np.dtype([*_AXES, ("type", "u1"), ("time", ">f8")]),
    _WHOLE_SECONDS: np.dtype([*_AXES, ("type", ">u2"), ("time", ">u4")]),
    _NANOSECONDS: np.dtype([*_AXES, ("type", ">u2"), ("time", ">u8")]),
}
_TYPE_AT = _ARRAY_HEADER_BYTES + np.dtype(_AXES).itemsize  # of the first reading
_WHOLE_SECONDS_BYTES = 4
_SECONDS_BITS = 34
_NANOSECONDS_EACH = 1000  # in a microsecond
_MICROSECOND = timedelta(microseconds=1)
_encode = msgspec.msgpack.Encoder().encode


def in_columns(samples: Sequence[Sample], now: Microseconds, oldest_age: Microseconds) -> Measurements | None:
    """Return the measurements of one array, which has FEWEST to 65,535 readings.

    Return None if a timestamp is not accepted, or if the timestamps are of several kinds.
    `now`, `oldest_age`: as in `rules.accepted_at`, which accepts the same timestamps and returns the same times.
    """
    whole: list[int] = []
    table = _table(samples)
    if table is None:
        whole = _of_whole_seconds(samples)
        table = _shifted_table([samples[place] for place in whole], samples) if whole else None
    if table is None:
        return None
    axes = table["x"], table["y"], table["z"]
    if table.dtype is _TABLES[_NIL]:
        return Measurements(axes, None)
    moments = _moments(table["time"])
    if moments is None:
        return None
    moments[whole] -= 1
    are_near = all(is_near(int(moment), now, oldest_age) for moment in (moments.min(), moments.max()))
    return Measurements(axes, moments) if are_near else None


def _table(samples: Sequence[Sample]) -> Column | None:
    """Return the readings as a table; None if their timestamps are of several types, or outside the years 1 to 9999."""
    try:
        encoded = _encode(samples)
    except OverflowError:  # of a time near an end of those years, once it is in UTC
        return None
    kind = encoded[_TYPE_AT]
    if kind not in _TABLES:
        kind = int.from_bytes(encoded[_TYPE_AT : _TYPE_AT + 2], "big")
    layout = _TABLES.get(kind)
    if layout is None or len(encoded) != _ARRAY_HEADER_BYTES + len(samples) * layout.itemsize:
        return None
    table = np.frombuffer(encoded, layout, offset=_ARRAY_HEADER_BYTES)
    # All rows before the first one of another type have this layout, so the type of that row is in this column.
    return table if (table["type"] == kind).all() else None


def _of_whole_seconds(samples: Sequence[Sample]) -> list[int]:
    """Return the indexes of the timestamps of whole seconds; none unless all timestamps were strings."""
    try:
        return [place for place, sample in enumerate(samples) if not sample.timestamp.microsecond]  # type: ignore[union-attr]
    except AttributeError:  # a number, or no timestamp
        return []


def _shifted_table(shifted: Sequence[Any], samples: Sequence[Sample]) -> Column | None:
    """Return the readings as a table. The timestamps of `shifted` are a microsecond later, so all have one type."""
    for sample in shifted:
        sample.timestamp += _MICROSECOND
    table = _table(samples)
    for sample in shifted:
        sample.timestamp -= _MICROSECOND
    return table


def _moments(times: Column) -> Column | None:
    """Return the timestamps in microseconds; None if one is a number that is not a plausible time."""
    if times.dtype.kind == "f":
        are_times = bool(((times >= EARLIEST_S) & (times < LATEST_S)).all())  # False for NaN as well
        return np.rint(times * SECOND).astype(np.int64) if are_times else None
    if times.itemsize == _WHOLE_SECONDS_BYTES:
        return times.astype(np.int64) * SECOND
    nanoseconds, seconds = times >> _SECONDS_BITS, times & (1 << _SECONDS_BITS) - 1
    return (seconds * SECOND + nanoseconds // _NANOSECONDS_EACH).astype(np.int64)
