"""MinMaxLTTB of any number of readings in constant memory: a line for a plot that looks as all of them would.

MinMaxLTTB (https://arxiv.org/abs/2305.00332) takes two steps: of each of many equal spans of time it keeps the
least and the greatest value, and of those Largest-Triangle-Three-Buckets chooses. The first step is done here, while
the readings come by, for tsdownsample wants all of them in memory, and panics where they are all of one moment. The
second is tsdownsample's.

What is exact: the first and the last reading, the least and the greatest value are always among the points, and
every point is a reading. Which others are chosen does not depend on how the readings were cut into blocks.
"""

import numpy as np
from numpy.typing import NDArray
from tsdownsample import LTTBDownsampler

Times = NDArray[np.int64]
"""Microseconds since 1970, never falling."""
Values = NDArray[np.float64]

_lttb = LTTBDownsampler()  # type: ignore[no-untyped-call]

MIN_POINTS = 4
"""The first, the last, the least and the greatest."""
MAX_POINTS = 10_000
SPANS_A_POINT = 2
"""Each keeps two values, so LTTB chooses one of four: the ratio that the paper recommends."""


class Downsampler:
    """Of one axis: takes blocks of readings in their order, and gives at most so many points."""

    def __init__(self, first: int, last: int, points: int) -> None:
        """`first`, `last`: the times that all readings lie between, in microseconds. `points`: MIN_POINTS or more."""
        self._first = first
        self._span = -(-(last - first + 1) // (SPANS_A_POINT * points))
        self._points = points
        self._times: Times = np.empty(0, np.int64)
        self._values: Values = np.empty(0, np.float64)
        self._count = 0

    def add(self, times: Times, values: Values) -> None:
        """The next block. Up to the number of points all readings are kept, above it only those that count."""
        self._count += len(times)
        self._times = np.concatenate((self._times, times))
        self._values = np.concatenate((self._values, values))
        if self._count > self._points:
            spans = (self._times - self._first) // self._span
            kept = _extremes(spans, self._values)
            self._times, self._values = self._times[kept], self._values[kept]

    def result(self) -> tuple[Times, Values]:
        """The points."""
        if len(self._times) <= self._points:
            return self._times, self._values
        chosen = _choose(self._times - self._first, self._values, self._points)
        return self._times[chosen], self._values[chosen]


def _extremes(spans: NDArray[np.int64], values: Values) -> NDArray[np.intp]:
    """The positions of the first, the last, and each span's least (its first) and greatest (its last) value."""
    order = np.lexsort((values, spans))
    starts = np.flatnonzero(np.diff(spans, prepend=-1))
    ends = np.append(starts[1:], len(spans)) - 1
    return np.unique(np.concatenate((order[starts], order[ends], [0, len(spans) - 1])))


def _choose(times: Times, values: Values, points: int) -> NDArray[np.intp]:
    """The positions that LTTB chooses, and those of the extremes, which it may pass over."""
    chosen = [0, len(values) - 1]
    if points > MIN_POINTS:
        chosen = _lttb.downsample(times.astype(np.float64), values, n_out=points - 2)
    extremes = [values.argmin(), values.argmax()]
    return np.union1d(np.asarray(chosen, np.intp), extremes)
