"""Exact sums of float64 values and of their squares, and the statistics that follow from them, each rounded once.

An exact sum is a Decimal of as many digits as it takes. The order of the values cannot change it, and the sums of parts
add up to the sum of the whole. PostgreSQL stores it as numeric.

A float64 is a mantissa below 1 times a power of 2, and the mantissa is a multiple of 2^-54. Values of equal exponent
are summed as two integers of 27 bits each, without rounding. Python's integers then combine the exponents.
"""

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact
from math import isqrt

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
"""Finite values."""

ZERO = Decimal(0)
_EXACT = Context(prec=20_000, Emax=10**6, Emin=-(10**6), traps=[Inexact])
"""Holds each digit of a sum of squares: they reach from 2^-2148 to 2^2048. It raises an error instead of rounding."""
_LIMB_BITS = 27
_LIMB = float(2**_LIMB_BITS)
_UNIT_BITS = 2 * _LIMB_BITS
_PART = 1 << 18
"""Values that are summed in one step: 2^26 at most, since a sum of limbs of 27 bits must be below 2^53."""
_SPLITTER = float(2**27 + 1)
_Number = tuple[int, int]
"""An integer, and the power of 2 that it is multiplied by."""


def total(values: Values) -> Decimal:
    """Return the exact sum of the values."""
    numbers = (_weighted(*np.frexp(part)) for part in _parts(values))
    return _as_decimal(numbers)


def total_of_squares(values: Values) -> Decimal:
    """Return the exact sum of the squares of the values."""
    numbers = (number for part in _parts(values) for number in _squares(part))
    return _as_decimal(numbers)


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


def _parts(values: Values) -> list[Values]:
    return [values[at : at + _PART] for at in range(0, len(values), _PART)]


def _weighted(mantissas: Values, exponents: NDArray[np.int32]) -> _Number:
    """Return the sum of mantissas times 2^exponents. The mantissas are multiples of 2^-54 and below 1."""
    least = int(exponents.min())
    places = exponents - least
    scaled = mantissas * _LIMB
    high = np.trunc(scaled)
    highs, lows = np.bincount(places, high), np.bincount(places, (scaled - high) * _LIMB)
    added = 0
    for place in np.flatnonzero((highs != 0) | (lows != 0)).tolist():
        added += ((int(highs[place]) << _LIMB_BITS) + int(lows[place])) << place
    return added, least - _UNIT_BITS


def _squares(values: Values) -> tuple[_Number, _Number]:
    """Return the sum of the rounded squares, and the sum of what their rounding lost.

    The product of two mantissas and its rounding error are exact (Dekker, https://doi.org/10.1007/BF01397083).
    """
    mantissas, exponents = np.frexp(values)
    exponents *= 2
    products = mantissas * mantissas
    split = mantissas * _SPLITTER
    high = split - (split - mantissas)
    low = mantissas - high
    lost = ((high * high - products) + 2 * high * low) + low * low
    return _weighted(products, exponents), _weighted(lost * 2.0**53, exponents - 53)


def _as_decimal(numbers: Iterable[_Number]) -> Decimal:
    """Return the sum of the numbers as a Decimal."""
    added, exponent = 0, 0
    for number, own in numbers:
        if own < exponent:
            added, exponent = added << (exponent - own), own
        added += number << (own - exponent)
    surplus = min(-exponent, (added & -added).bit_length() - 1) if added else -exponent  # of zeros at the end
    added, exponent = added >> surplus, exponent + surplus
    return _EXACT.scaleb(Decimal(added * 5**-exponent), exponent)  # m 2^-e = m 5^e 10^-e


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
