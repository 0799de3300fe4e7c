"""Arrays of a block as integers of few bytes each, from which the exact values follow.

Sensors report few decimals: most values are n / 10**digits for an integer n, and neighbours differ little. So an array
is kept in frames of equally many entries. A frame has a head, which is an n, and for each entry:

- of *sorted values*, the difference of n from that of the entry before;
- of a *column of values*, the difference of n from the head, which is the least n of the frame;
- of *times*, the difference from the head, in the largest unit that divides all.

All frames of an array take equally many bytes, so that a part of it can be read alone. The last frame is padded. If
values are some units in the last place away from n / 10**digits, as after a conversion of units, each entry has a
further byte that says by how many. What does not fit is kept as it is, in 8 bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Self

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
_VALUE_BYTES = 8
_WIDTHS = (1, 2, 4)
_PART = 1 << 16
"""Values that are looked at together: whole frames."""

Corrections = NDArray[np.int8]


class Coding(msgspec.Struct, frozen=True):
    """How the entries of an array are kept.

    `digits`: of decimals; of times, the power of 10 of the unit in microseconds; RAW if entries are kept as they are.
    `width`: the bytes of an entry. `is_corrected`: whether each has a correction.
    """

    digits: int = RAW
    width: int = _VALUE_BYTES
    is_corrected: bool = False

    @classmethod
    def of(cls, number: int) -> Self:
        """Return the coding of this number. Raises ValueError."""
        if number == 0:
            return cls()
        digits, rest = divmod(number, 100)
        width, is_corrected = divmod(rest, 10)
        if not 0 <= digits <= MOST_DIGITS or width not in _WIDTHS or is_corrected > 1:
            raise ValueError(f"no coding has the number {number}")
        return cls(digits, width, is_corrected == 1)

    @property
    def number(self) -> int:
        """The coding as a number: 0 for RAW, or the digits of `digits`, `width` and `is_corrected`."""
        return 0 if self.digits == RAW else 100 * self.digits + 10 * self.width + self.is_corrected

    def frame_bytes(self, size: int) -> int:
        """Return the bytes of a frame of `size` entries."""
        return _VALUE_BYTES * size if self.digits == RAW else self.frame(size).itemsize

    def frame(self, size: int) -> np.dtype[np.void]:
        """Return the type of a frame of `size` entries."""
        fields = [("head", "<i8"), ("entries", f"<u{self.width}", size), ("away", "i1", size)]
        return np.dtype(fields if self.is_corrected else fields[:2])


class Coded(msgspec.Struct, frozen=True):
    """An array in frames: its coding, the bytes of each frame, and the frames."""

    coding: Coding
    frame_bytes: int
    data: memoryview

    @property
    def fields(self) -> tuple[int, int, memoryview]:
        """The columns `coding`, `frame_bytes`, and the one of the array."""
        return self.coding.number, self.frame_bytes, self.data


def code_sorted(values: Floats, size: int) -> Coded:
    """Return sorted values in frames of `size` entries."""
    return _coded_values(values, size, _differences)


def code_column(values: Floats, size: int) -> Coded:
    """Return values in any order in frames of `size` entries."""
    return _coded_values(values, size, _distances)


_Entries = Callable[[Ints], tuple[Ints, Ints]]
"""Returns the heads and the entries of frames of integers."""


def _differences(numbers: Ints) -> tuple[Ints, Ints]:
    return numbers[:, 0], np.diff(numbers, axis=1, prepend=numbers[:, :1])


def _distances(numbers: Ints) -> tuple[Ints, Ints]:
    heads = numbers.min(axis=1)
    return heads, numbers - heads[:, np.newaxis]


def _coded_values(values: Floats, size: int, entries_of: _Entries) -> Coded:
    """Part by part, so that memory holds the integers of one part."""
    parts = [values[begin : begin + _PART] for begin in range(0, len(values), _PART)]
    digits = _digits(parts)
    coding = None if digits is None else _coding(parts, digits, size, entries_of)
    if coding is None:
        return _raw(values, size)
    frames = np.empty(-(-len(values) // size), coding.frame(size))
    for number, part in enumerate(parts):
        own = frames[number * (_PART // size) :][: -(-len(part) // size)]
        numbers, away = _scaled(part, coding.digits) or _never()
        own["head"], own["entries"] = entries_of(_framed(numbers, size))
        if coding.is_corrected:
            own["away"] = _framed(away, size)
    return Coded(coding, frames.itemsize, frames.data.cast("B"))


def _digits(parts: Sequence[Floats]) -> int | None:
    """Return the fewest digits that all values have; None if they have too many."""
    digits = 0
    for part in parts:
        sample = part[:: max(1, len(part) // _SAMPLE)].copy()
        for values in (sample, part):
            while digits <= MOST_DIGITS and _scaled(values, digits) is None:
                digits += 1
    return digits if digits <= MOST_DIGITS else None


def _coding(parts: Sequence[Floats], digits: int, size: int, entries_of: _Entries) -> Coding | None:
    greatest, is_corrected = 0, False
    for part in parts:
        found = _scaled(part, digits)
        if found is None:  # more digits than it has are further units in the last place away
            return None
        greatest = max(greatest, int(entries_of(_framed(found[0], size))[1].max()))
        is_corrected = is_corrected or bool(found[1].any())
    width = _width(greatest)
    return None if width is None else Coding(digits, width, is_corrected)


def _scaled(values: Floats, digits: int) -> tuple[Ints, Corrections] | None:
    """Return n and the corrections of values as n / 10**digits; None if some are too far away from one."""
    power = 10.0**digits
    with np.errstate(over="ignore"):
        numbers = np.rint(values * power)
    if np.abs(numbers).max() >= _LARGEST:
        return None
    is_negative_zero = (values == 0) & np.signbit(values)
    away = values.view(np.int64) - (numbers / power + 0.0).view(np.int64)
    away[is_negative_zero] = 0
    if np.abs(away).max() > _MOST_CORRECTED:
        return None
    away[is_negative_zero] = _NEGATIVE_ZERO
    return numbers.astype(np.int64), away.astype(np.int8)


def _never() -> NoReturn:
    raise AssertionError("these digits have been tried")


def code_times(times: Times, size: int) -> Coded:
    """Return ascending times in frames of `size` entries."""
    heads, entries = _distances(_framed(times, size))
    power = next(power for power in _UNIT_POWERS if not (entries % 10**power).any())
    width = _width(int(entries.max()) // 10**power)
    if width is None:
        return _raw(times, size)
    coding = Coding(power, width)
    frames = np.empty(len(heads), coding.frame(size))
    frames["head"], frames["entries"] = heads, entries // 10**power
    return Coded(coding, frames.itemsize, frames.data.cast("B"))


def _width(greatest: int) -> int | None:
    """Return the bytes of entries up to `greatest`: 1, 2 or 4; None if it takes more."""
    return next((width for width in _WIDTHS if greatest < 1 << 8 * width), None)


def _framed(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Return frames. The last one is filled with the last entry."""
    missing = -len(array) % size
    return (np.pad(array, (0, missing), mode="edge") if missing else array).reshape(-1, size)


def _raw(array: Floats | Ints, size: int) -> Coded:
    return Coded(Coding(), _VALUE_BYTES * size, _framed(np.ascontiguousarray(array), size).data.cast("B"))


def decode_sorted(coding: Coding, data: bytes, size: int) -> Floats:
    """Return the values of whole frames, with the padding of the last one."""
    if coding.digits == RAW:
        return np.frombuffer(data, "<f8")
    frames = np.frombuffer(data, coding.frame(size))
    numbers = np.cumsum(frames["entries"], axis=1, dtype=np.int64) + frames["head"][:, np.newaxis]
    return _values(coding, numbers, frames)


def decode_column(coding: Coding, data: bytes, size: int) -> Floats:
    """Return the values of whole frames, with the padding of the last one."""
    if coding.digits == RAW:
        return np.frombuffer(data, "<f8")
    frames = np.frombuffer(data, coding.frame(size))
    return _values(coding, frames["entries"] + frames["head"][:, np.newaxis], frames)


def _values(coding: Coding, numbers: Ints, frames: NDArray[np.void]) -> Floats:
    values = numbers / 10.0**coding.digits
    if coding.is_corrected:
        away = frames["away"]
        values = (values.view(np.int64) + away).view(np.float64)
        values[away == _NEGATIVE_ZERO] = -0.0
    return values.ravel()


def decode_times(coding: Coding, data: bytes, size: int) -> Times:
    """Return the times of whole frames, with the padding of the last one."""
    if coding.digits == RAW:
        return np.frombuffer(data, "<i8")
    frames = np.frombuffer(data, coding.frame(size))
    times: Times = (frames["entries"] * np.int64(10**coding.digits) + frames["head"][:, np.newaxis]).ravel()
    return times
