"""Downsampling for plots by MinMaxLTTB, of any number of readings in constant memory.

MinMaxLTTB (https://arxiv.org/abs/2305.00332) has two steps. The first keeps the least and the greatest value of each of
many equal spans of time. From these values Largest-Triangle-Three-Buckets chooses the points. This module implements
the first step block by block, as tsdownsample needs all readings in memory, and panics if they have equal times.
tsdownsample implements the second step.

The first and the last reading, and the least and the greatest value, are always among the points. Every point is a
reading. The points do not depend on the division of the readings into blocks.
"""

import numpy as np
from numpy.typing import NDArray
from tsdownsample import LTTBDownsampler

Times = NDArray[np.int64]
"""Microseconds since 1970, not descending."""
Values = NDArray[np.float64]

_lttb = LTTBDownsampler()  # type: ignore[no-untyped-call]

MIN_POINTS = 4
"""The first and the last reading, the least and the greatest value."""
MAX_POINTS = 10_000
SPANS_A_POINT = 2
"""Each span keeps two values, so LTTB chooses one of four, the ratio that the paper recommends."""


def span_of(first: int, last: int, points: int) -> int:
    """Return the length of the spans for this number of points. They begin at `first`."""
    return -(-(last - first + 1) // (SPANS_A_POINT * points))


class Downsampler:
    """Downsamples the readings of one axis, block by block in order."""

    def __init__(self, first: int, last: int, points: int) -> None:
        """`first`, `last`: bounds of the times. `points`: maximum number of points, at least MIN_POINTS."""
        self._first = first
        self._span = span_of(first, last, points)
        self._points = points
        self._times: Times = np.empty(0, np.int64)
        self._values: Values = np.empty(0, np.float64)
        self._count = 0

    def add(self, times: Times, values: Values, count: int | None = None) -> None:
        """Add a block. Up to the number of points all readings are kept; above it, the extremes of each span.

        `count`: the number of readings of the block, if only some are given: the first and the last reading of all,
        and the extremes of each span. All blocks together must have more readings than points.
        """
        self._count += len(times) if count is None else count
        self._times = np.concatenate((self._times, times))
        self._values = np.concatenate((self._values, values))
        if self._count > self._points:
            spans = (self._times - self._first) // self._span
            kept = _extremes(spans, self._values)
            self._times, self._values = self._times[kept], self._values[kept]

    def result(self) -> tuple[Times, Values]:
        """Return the times and values of the points."""
        if len(self._times) <= self._points:
            return self._times, self._values
        chosen = _choose(self._times - self._first, self._values, self._points)
        return self._times[chosen], self._values[chosen]


def _extremes(spans: NDArray[np.int64], values: Values) -> NDArray[np.intp]:
    """Return the indexes of the first and last value, and of each span's least (first) and greatest (last) one.

    `spans`: of each value, not descending.
    """
    starts = np.flatnonzero(np.diff(spans, prepend=spans[0] - 1))
    sizes = np.diff(starts, append=len(spans))
    least = _places(values == np.repeat(np.minimum.reduceat(values, starts), sizes), starts, last=False)
    greatest = _places(values == np.repeat(np.maximum.reduceat(values, starts), sizes), starts, last=True)
    kept = np.zeros(len(spans), bool)
    kept[least] = kept[greatest] = kept[[0, -1]] = True
    return np.flatnonzero(kept)


def _places(chosen: NDArray[np.bool_], starts: NDArray[np.intp], *, last: bool) -> NDArray[np.intp]:
    """Return the index of the first or the last chosen value of each span, which has one. `starts`: of the spans."""
    places = np.flatnonzero(chosen)
    firsts = np.searchsorted(places, starts)
    return places[np.append(firsts[1:], len(places)) - 1] if last else places[firsts]


def _choose(times: Times, values: Values, points: int) -> NDArray[np.intp]:
    """Return the indexes that LTTB chooses, and those of the extremes, which LTTB may omit."""
    chosen = [0, len(values) - 1]
    if points > MIN_POINTS:
        chosen = _lttb.downsample(times.astype(np.float64), values, n_out=points - 2)
    extremes = [values.argmin(), values.argmax()]
    return np.union1d(np.asarray(chosen, np.intp), extremes)
