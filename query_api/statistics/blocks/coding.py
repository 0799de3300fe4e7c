"""Arrays of a block as integers of few bytes each, from which the exact values follow.

Sensors report few decimals: most values are n / 10**digits for an integer n, and neighbours differ little.

- *Sorted values* are kept as the difference of n from that of the value before.
- *Columns of values* are kept as the difference of n from the least n of the block.
- *Times* are kept as the difference from the kept time before (`Layout.time_stride`), in a unit that divides all.

All entries of an array take equally many bytes, so that any part of it can be read alone. If values are some units in
the last place away from n / 10**digits, as after a conversion of units, each entry has a further byte that says by how
many. What does not fit is kept as it is, in 8 bytes.
"""

from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from query_api.statistics.blocks.layout import Floats, Ints, Times

MOST_DIGITS = 9
RAW = -1
"""In place of the number of digits."""
_SAMPLE = 64
"""Values of which the number of digits is found. Only then are all looked at."""
_LARGEST = 2.0**53
"""Integers up to here are exact as float64."""
_MOST_CORRECTED = 127
_NEGATIVE_ZERO = -128
"""The correction of -0.0, which is no distance."""
_UNIT_POWERS = (6, 5, 4, 3, 2, 1, 0)
"""Of times: 10**6 microseconds are a second."""

Corrections = NDArray[np.int8]


class Coding(msgspec.Struct, frozen=True):
    """How the entries of an array are kept.

    `digits`: of decimals; of times, the power of 10 of the unit; RAW if the entries are kept as they are. `width`: the
    bytes of an integer. `base`: the n that entries of a column differ from; 0 for other arrays.
    """

    digits: int = RAW
    width: int = 8
    is_corrected: bool = False
    base: int = 0

    @property
    def entry_bytes(self) -> int:
        """The bytes that each entry takes."""
        return self.width + self.is_corrected

    def pack(self, numbers: Ints, corrections: Corrections) -> bytes:
        """Return the entries of these integers, none of which is negative."""
        entries = np.empty(len(numbers), self._type)
        entries["n"], entries["away"] = numbers, corrections
        return entries.tobytes() if self.is_corrected else entries["n"].tobytes()

    def unpack(self, data: bytes) -> tuple[Ints, Corrections]:
        """Return the integers and the corrections of these entries."""
        if self.is_corrected:
            entries = np.frombuffer(data, self._type)
            return entries["n"].astype(np.int64), entries["away"]
        numbers = np.frombuffer(data, self._type["n"]).astype(np.int64)
        return numbers, np.zeros(len(numbers), np.int8)

    @property
    def _type(self) -> np.dtype[np.void]:
        return np.dtype([("n", f"<u{self.width}"), ("away", "i1")])


class Scaled(msgspec.Struct, frozen=True):
    """Values as n / 10**digits, corrected by units in the last place."""

    digits: int
    numbers: Ints
    corrections: Corrections

    @classmethod
    def of(cls, values: Floats) -> Self | None:
        """Return the values with the fewest digits; None if they have too many. The last place is corrected."""
        sample = values[:: max(1, len(values) // _SAMPLE)]
        for digits in range(MOST_DIGITS + 1):
            if _scaled(sample, digits) is not None and (found := _scaled(values, digits)) is not None:
                return cls(digits, *found)
        return None

    def values(self) -> Floats:
        """Return the values."""
        found = self.numbers / 10.0**self.digits
        if self.corrections.any():
            found = (found.view(np.int64) + self.corrections).view(np.float64)
            found[self.corrections == _NEGATIVE_ZERO] = -0.0
        return found


def _scaled(values: Floats, digits: int) -> tuple[Ints, Corrections] | None:
    power = 10.0**digits
    with np.errstate(over="ignore"):
        numbers = np.rint(values * power)
    if np.abs(numbers).max() >= _LARGEST:
        return None
    away = values.view(np.int64) - (numbers / power + 0.0).view(np.int64)
    away[(values == 0) & np.signbit(values)] = 0
    if np.abs(away).max() > _MOST_CORRECTED:
        return None
    corrections = away.astype(np.int8)
    corrections[(values == 0) & np.signbit(values)] = _NEGATIVE_ZERO
    return numbers.astype(np.int64), corrections


def numbers_of(values: Floats, digits: int) -> Ints:
    """Return the n of values that were coded with these digits."""
    return np.rint(values * 10.0**digits).astype(np.int64)


def code_sorted(values: Floats) -> tuple[Coding, bytes]:
    """Return the entries of sorted values. The first one is 0: it is known from the marks."""
    scaled = Scaled.of(values)
    if scaled is None:
        return Coding(), values.tobytes()
    return _coded(scaled, np.diff(scaled.numbers, prepend=scaled.numbers[0]), 0) or (Coding(), values.tobytes())


def code_column(values: Floats) -> tuple[Coding, bytes]:
    """Return the entries of values in any order."""
    scaled = Scaled.of(values)
    if scaled is None:
        return Coding(), values.tobytes()
    base = int(scaled.numbers.min())
    return _coded(scaled, scaled.numbers - base, base) or (Coding(), values.tobytes())


def _coded(scaled: Scaled, numbers: Ints, base: int) -> tuple[Coding, bytes] | None:
    width = _width(numbers)
    if width is None:
        return None
    coding = Coding(scaled.digits, width, bool(scaled.corrections.any()), base)
    return coding, coding.pack(numbers, scaled.corrections)


def _width(numbers: Ints) -> int | None:
    """Return the bytes that hold each of the integers: 1, 2 or 4; None if it takes more."""
    greatest = int(numbers.max())
    return next((width for width in (1, 2, 4) if greatest < 1 << 8 * width), None)


def decode_sorted(coding: Coding, data: bytes, sizes: Ints, before: Floats) -> Floats:
    """Return the values of parts of sorted arrays of one coding, one after the other.

    `sizes`: of each part. `before`: of each part the value before it, or the first value of an array from its start.
    """
    if coding.digits == RAW:
        return np.frombuffer(data, "<f8")
    differences, corrections = coding.unpack(data)
    sums = np.concatenate(([0], np.cumsum(differences)))
    offsets = numbers_of(before, coding.digits) - sums[np.cumsum(sizes) - sizes]
    return Scaled(coding.digits, sums[1:] + np.repeat(offsets, sizes), corrections).values()


def decode_column(coding: Coding, data: bytes) -> Floats:
    """Return the values of a part of a column."""
    if coding.digits == RAW:
        return np.frombuffer(data, "<f8")
    numbers, corrections = coding.unpack(data)
    return Scaled(coding.digits, numbers + coding.base, corrections).values()


def code_times(times: Times, stride: int) -> tuple[Coding, bytes]:
    """Return the entries of ascending times."""
    differences = times - np.repeat(times[::stride], stride)[: len(times)]
    power = next(power for power in _UNIT_POWERS if not (differences % 10**power).any())
    numbers = differences // 10**power
    width = _width(numbers)
    if width is None:
        return Coding(), times.tobytes()
    coding = Coding(power, width)
    return coding, coding.pack(numbers, np.zeros(len(numbers), np.int8))


def decode_times(coding: Coding, data: bytes, kept: Times, stride: int) -> Times:
    """Return the times of a part that begins with the first of `kept`, which are those of the part."""
    if coding.digits == RAW:
        return np.frombuffer(data, "<i8")
    numbers, _ = coding.unpack(data)
    times: Times = numbers * 10**coding.digits + np.repeat(kept, stride)[: len(numbers)]
    return times
