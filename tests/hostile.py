"""Values that are hard on sums and order statistics."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.readings.rules import AXIS_LIMIT

Floats = NDArray[np.float64]

_KINDS: dict[str, Callable[[int, np.random.Generator], Floats]] = {
    "independent": lambda n, rng: rng.uniform(-1000, 1000, n),
    "walk": lambda n, rng: np.cumsum(rng.normal(0, 0.3, n)),
    "sine": lambda n, rng: 500 * np.sin(np.arange(n) / 97) + rng.normal(0, 1e-9, n),
    "ascending": lambda n, rng: np.sort(rng.normal(0, 100, n)),
    "quantised": lambda n, rng: np.round(rng.normal(20, 1, n)) / 2,
    "two values": lambda n, rng: rng.integers(0, 2, n).astype(float),
    "constant": lambda n, rng: np.full(n, rng.choice([0.1, -0.0, 1000.0, 5e-324])),
    "signed zeros": lambda n, rng: rng.choice([0.0, -0.0], n),
    "zeros and ones": lambda n, rng: rng.choice([0.0, -0.0, 1.0, -1.0], n),
    "extremes": lambda n, rng: rng.choice([1000.0, -1000.0, 5e-324, -5e-324, 999.9999999999999], n),
    "denormal": lambda n, rng: rng.integers(-50, 50, n) * 5e-324,
    "cancelling": lambda n, rng: np.tile([1000.0, 1e-13, -1000.0, 3e-17], n // 4 + 1)[:n],
    "scales": lambda n, rng: rng.choice([-1, 1], n) * 10.0 ** rng.uniform(-300, 3, n),
    "mostly one value": lambda n, rng: np.where(rng.random(n) < 0.97, 7.0, rng.uniform(-1000, 1000, n)),
    "heavy middle": lambda n, rng: np.where(rng.random(n) < 0.4, 0.5, rng.normal(0.5, 1e-3, n)),
}
KINDS = tuple(_KINDS)


def values(kind: str, count: int, rng: np.random.Generator) -> Floats:
    """Return values of one of KINDS, within the limits of an axis."""
    return _KINDS[kind](count, rng).clip(-AXIS_LIMIT, AXIS_LIMIT)
