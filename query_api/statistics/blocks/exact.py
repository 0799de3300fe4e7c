"""Exact sums of float64 values and of their squares, and the statistics that follow from them, each rounded once.

An exact sum is a Decimal of as many digits as it takes. The order of the values cannot change it, and the sums of parts
add up to the sum of the whole. PostgreSQL stores it as numeric.

A value is split at a power of 2, the grid, into a multiple of it and a rest (Rump, Ogita and Oishi,
https://doi.org/10.1137/050645671). The grid is coarse enough that float64 holds any sum of the multiples exactly, so
numpy may add them in any order. The rests are split at the next grid. Two grids are enough for most lists. Python's
integers then combine the sums of all grids.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Context, Decimal, Inexact
from functools import cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
"""Finite values."""

ZERO = Decimal(0)
_EXACT = Context(prec=20_000, Emax=10**6, Emin=-(10**6), traps=[Inexact])
"""Holds each digit of a sum of squares: they reach from 2^-2148 to 2^2048. It raises an error instead of rounding."""
_PART = 1 << 15
"""Values that are summed in one step. They stay in the cache of a core."""
_MANTISSA_BITS = 53
_LEAST_EXPONENT = -1074
"""Each float64 is a multiple of 2 to its power."""
_MOST_SUMMED = 2.0**900
_LEAST_SQUARED, _MOST_SQUARED = 2.0**-450, 2.0**450
"""Bounds within which no step overflows, and no rounding error is below the least float64."""
_SCALE = 600
"""The exponent that moves other values within the bounds."""
_SPLITTER = float(2**27 + 1)
_Number = tuple[int, int]
"""An integer, and the power of 2 that it is multiplied by."""


def total(values: Values) -> Decimal:
    """Return the exact sum of the values."""
    return totals(values, [len(values)])[0]


def total_of_squares(values: Values) -> Decimal:
    """Return the exact sum of the squares of the values."""
    return totals_of_squares(values, [len(values)])[0]


def totals(values: Values, sizes: Sequence[int]) -> list[Decimal]:
    """Return the exact sum of each list. `values`: those of the first list, then those of the next one, and so on."""
    return _totals(values, sizes, _sums)


def totals_of_squares(values: Values, sizes: Sequence[int]) -> list[Decimal]:
    """Return the exact sum of the squares of each list."""
    return _totals(values, sizes, _sums_of_squares)


def add(*totals: Decimal) -> Decimal:
    """Return the exact sum of exact sums."""
    added = ZERO
    for one in totals:
        added = _EXACT.add(added, one)
    return added


def rounded(number: Decimal) -> float:
    """Return the nearest float64. Zero has no sign. Raises OverflowError beyond the range of float64."""
    numerator, denominator = number.as_integer_ratio()
    return numerator / denominator


def mean(count: int, added: Decimal) -> float:
    """Return the mean of `count` values, by their exact sum, rounded once. `count` is at least 1."""
    numerator, denominator = added.as_integer_ratio()
    return numerator / (denominator * count)


def variance(count: int, added: Decimal, squares: Decimal) -> float:
    """Return the sample variance, by the exact sums of the values and of their squares, rounded once.

    `count` is at least 2.
    """
    numerator, denominator = _variance(count, added, squares)
    return numerator / denominator


def stddev(count: int, added: Decimal, squares: Decimal) -> float:
    """Return the sample standard deviation, rounded once. `count` is at least 2."""
    return _root(*_variance(count, added, squares))


_Sums = Iterable[tuple[list[int], int]]
"""Integers, one for each list, and the exponent of the power of 2 that they are multiplied by."""


def _totals(values: Values, sizes: Sequence[int], sums: Callable[[Values, list[int]], _Sums]) -> list[Decimal]:
    numbers: list[list[_Number]] = [[] for _ in sizes]
    for begin, end, own, pieces in _steps(sizes):
        for added, exponent in sums(values[begin:end], pieces):
            for one, number in zip(own, added, strict=True):
                numbers[one].append((number, exponent))
    return [_as_decimal(one) for one in numbers]


def _steps(sizes: Sequence[int]) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """Yield steps of at most _PART values: where each begins and ends, and the lists and the starts of its pieces.

    A piece is a list, or a part of a longer one.
    """
    begin = at = 0
    own: list[int] = []
    starts: list[int] = []
    for one, size in enumerate(sizes):
        left = size
        while left:
            taken = min(left, _PART)
            if at - begin + taken > _PART:
                yield begin, at, own, starts
                begin, own, starts = at, [], []
            own.append(one)
            starts.append(at - begin)
            at, left = at + taken, left - taken
    if own:
        yield begin, at, own, starts


def _sums(values: Values, starts: list[int]) -> _Sums:
    """Yield the sum of each piece, in several grids. `starts`: where the pieces begin."""
    for part, exponent in _scaled(values, 0.0, _MOST_SUMMED):
        for added, grid in _sums_by_grids(part, starts):
            yield added, grid + exponent


def _sums_of_squares(values: Values, starts: list[int]) -> _Sums:
    """Yield the sum of the rounded squares of each piece, and the sum of what their rounding lost.

    The square of a value and its rounding error are exact (Dekker, https://doi.org/10.1007/BF01397083).
    """
    for part, exponent in _scaled(values, _LEAST_SQUARED, _MOST_SQUARED):
        squares = part * part
        split = part * _SPLITTER
        high = split - (split - part)
        low = part - high
        lost = ((high * high - squares) + 2 * high * low) + low * low
        for some in (squares, lost):
            for added, grid in _sums_by_grids(some, starts):
                yield added, grid + 2 * exponent


def _scaled(values: Values, least: float, most: float) -> Iterator[tuple[Values, int]]:
    """Yield parts that add up to the values, and the exponent of the power of 2 that each part is multiplied by.

    Values below `least`, and values from `most` on, are scaled to a magnitude between them.
    """
    sizes = np.abs(values)
    is_small, is_large = sizes < least, sizes >= most
    if not is_small.any() and not is_large.any():
        yield values, 0
        return
    for chosen, exponent in ((is_small, -_SCALE), (~is_small & ~is_large, 0), (is_large, _SCALE)):
        part = np.where(chosen, values, 0.0)
        if part.any():
            yield np.ldexp(part, -exponent), exponent


def _sums_by_grids(values: Values, starts: list[int]) -> _Sums:
    """Yield the sums of the multiples of each grid: the sums of all grids are the sums of the pieces."""
    bits = max(2, (len(values) - 1).bit_length())
    while greatest := max(values.max(), -values.min()):
        grid = max(math.frexp(greatest)[1] + bits - _MANTISSA_BITS, _LEAST_EXPONENT)
        shifter = math.ldexp(1.5, grid + _MANTISSA_BITS - 1)
        multiples = (values + shifter) - shifter  # rounds to multiples of 2^grid
        added = np.add.reduceat(multiples, starts)
        yield np.ldexp(added, -grid).astype(np.int64).tolist(), grid
        values = values - multiples


def _as_decimal(numbers: Iterable[_Number]) -> Decimal:
    """Return the sum of the numbers as a Decimal."""
    added, exponent = 0, 0
    for number, own in numbers:
        if own < exponent:
            added, exponent = added << (exponent - own), own
        added += number << (own - exponent)
    surplus = min(-exponent, (added & -added).bit_length() - 1) if added else -exponent  # of zeros at the end
    added, exponent = added >> surplus, exponent + surplus
    return _EXACT.scaleb(Decimal(added * _power_of_5(-exponent)), exponent)  # m 2^-e = m 5^e 10^-e


@cache
def _power_of_5(exponent: int) -> int:
    power: int = 5**exponent
    return power


def _variance(count: int, added: Decimal, squares: Decimal) -> tuple[int, int]:
    """Return numerator and denominator of (n Q - S^2) / (n (n - 1)), for the sums S of values and Q of squares."""
    s, s_under = added.as_integer_ratio()
    q, q_under = squares.as_integer_ratio()
    numerator = count * q * s_under**2 - s**2 * q_under
    return numerator, count * (count - 1) * s_under**2 * q_under


def _root(numerator: int, denominator: int) -> float:
    """Return the square root of a ratio, rounded once.

    The integer root has 64 bits or more. One more bit says whether it is exact, which decides the rounding to 53 bits.
    """
    shift = max(0, 65 + (denominator.bit_length() - numerator.bit_length()) // 2)
    scaled, rest = divmod(numerator << (2 * shift), denominator)
    root = isqrt(scaled)
    is_inexact = rest != 0 or root * root != scaled
    return ((root << 1) | is_inexact) / (1 << (shift + 1))
