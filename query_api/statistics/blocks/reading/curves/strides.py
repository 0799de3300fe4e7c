"""Strides of blocks of readings: which of them must be read for the extremes of spans of time.

A stride across the end of a span has readings of two spans. Its own least value is known with its time, and so counts
for one of them. The other span needs no value of the stride if a stride within this span has a lesser one. The same
holds for the greatest. So only few of these strides are read. All that are longer than a span are: one may have
readings of three spans, or neighbours that are farther apart than a span.
"""

from collections.abc import Iterator
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from query_api.statistics.blocks.building import EXTREMES_COLUMN
from query_api.statistics.blocks.layout import AXES, Floats, Ints, Layout, Times, spread
from query_api.statistics.blocks.reading.slices import Parts
from shared.readings.model import Microseconds

Chosen = NDArray[np.bool_]
"""Of each stride, whether it is chosen."""


class Spans(msgspec.Struct, frozen=True):
    """Spans of equal length, from `first` to `last`, both included."""

    first: Microseconds
    last: Microseconds
    length: Microseconds

    def of(self, times: Times) -> Ints:
        """Return the span of each time."""
        return (times - self.first) // self.length


class Page(msgspec.Struct, frozen=True):
    """Blocks of readings in the order of time. `times`: the kept times of all of them. `until`: the end of the last."""

    level: Ints
    first: Times
    last: Times
    count: Ints
    times: Times

    @property
    def until(self) -> Microseconds:
        return int(self.last[-1])


class Strides(msgspec.Struct, frozen=True):
    """Strides in the order of time that reach into the period.

    `level`, `first`: of the block of each. `number`: of the stride in its block, `place`: of its first reading among
    those of all blocks. `start`, `end`: the times of its first reading, and of the first one behind it or of the last.
    """

    level: Ints
    first: Times
    number: Ints
    place: Ints
    size: Ints
    start: Times
    end: Times

    @classmethod
    def of(cls, page: Page, spans: Spans, layout: Layout) -> Self:
        counts = -(-page.count // layout.time_stride)
        block, number = np.repeat(np.arange(len(counts)), counts), spread(counts)
        begin = number * layout.time_stride
        size = np.minimum(page.count[block] - begin, layout.time_stride)
        end = np.append(page.times[1:], 0)
        end[np.cumsum(counts) - 1] = page.last
        place = (np.cumsum(page.count) - page.count)[block] + begin
        every = cls(page.level[block], page.first[block], number, place, size, page.times, end)
        return every.taken(np.flatnonzero((every.end >= spans.first) & (every.start <= spans.last)))

    @property
    def places(self) -> Ints:
        """The places of all readings."""
        return np.repeat(self.place, self.size) + spread(self.size)

    def taken(self, chosen: Ints | Chosen | slice) -> Self:
        """Return the chosen strides."""
        return type(self)(*(getattr(self, name)[chosen] for name in self.__struct_fields__))

    def is_cut(self, spans: Spans) -> Chosen:
        """Return which strides reach over an end of the period."""
        cut: Chosen = (self.start < spans.first) | (self.end > spans.last)
        return cut

    def needed(self, spans: Spans, late: Times) -> Chosen:
        """Return the strides of which all readings are needed: at the ends of the period, and beside late readings."""
        needed = self.is_cut(spans)
        needed |= np.searchsorted(late, self.start) < np.searchsorted(late, self.end, side="right")
        first = int(np.searchsorted(self.start, spans.first))
        needed[: first + 1] = needed[-1:] = True  # the first and the last reading of the period may be in them
        return needed

    def read(self, needed: Chosen, extremes: NDArray[np.void], spans: Spans) -> Chosen:
        """Return the strides of which each axis is read: shape (axes, strides). `extremes`: of those not needed."""
        read = np.tile(needed, (len(AXES), 1))
        first, last = spans.of(self.start), spans.of(self.end)
        crosses = first != last
        across = np.flatnonzero(crosses & ~needed)
        if len(across):
            known = Extremes.of(first[~crosses & ~needed], extremes[~crosses[~needed]])
            own = extremes[crosses[~needed]]
            first, last = first[across, np.newaxis], last[across, np.newaxis]
            other = first + last - spans.of(own["least_time"]), first + last - spans.of(own["greatest_time"])
            longer = (self.end - self.start)[across] > spans.length
            read[:, across] = ~known.surpass(*other, first, own).T | longer
        return read

    def parts(self, needed: Chosen, readings: int) -> Iterator[slice]:
        """Yield parts of the strides: each needs at most `readings`, or is one stride that needs more."""
        total = np.cumsum(np.where(needed, self.size, 1))
        begin = 0
        while begin < len(total):
            before = int(total[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(total, before + readings, side="right")))
            while end < len(total) and self.start[end] == self.end[end - 1]:
                end += 1  # late readings of that time belong to both
            yield slice(begin, end)
            begin = end

    def _runs(self) -> tuple[Ints, Ints]:
        """Return where runs of adjacent strides of a block begin, and where they end, excluded."""
        if len(self.number) == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        edges = np.flatnonzero((np.diff(self.number) != 1) | (np.diff(self.first) != 0)) + 1
        return np.append(0, edges), np.append(edges, len(self.number))

    def parts_of_extremes(self, device_id: int) -> Parts:
        """Return the parts of the extremes. Their positions are strides."""
        begin, end = self._runs()
        axis, first = np.full(len(begin), EXTREMES_COLUMN), self.number[begin]
        device = np.full(len(begin), device_id)
        return Parts(device, self.level[begin], self.first[begin], axis, first, first + end - begin)

    def parts_of_column(self, device_id: int, column: int, layout: Layout) -> Parts:
        """Return the parts of a column of all readings."""
        begin, end = self._runs()
        start = self.number[begin] * layout.time_stride
        behind = self.number[end - 1] * layout.time_stride + self.size[end - 1]
        device, axis = np.full(len(begin), device_id), np.full(len(begin), column)
        return Parts(device, self.level[begin], self.first[begin], axis, start, behind)


class Extremes(msgspec.Struct, frozen=True):
    """The extremes of spans by the strides within them. `span`: their numbers, ascending. Shape: (spans, axes)."""

    span: Ints
    least: Floats
    greatest: Floats

    @classmethod
    def of(cls, spans: Ints, extremes: NDArray[np.void]) -> Self:
        """Return those of strides. `spans`: of each stride, ascending."""
        if len(spans) == 0:
            return cls(np.array([-1]), *np.zeros((2, 1, len(AXES))))  # no span has this number
        first = np.flatnonzero(np.diff(spans, prepend=spans[0] - 1))
        least, greatest = (
            np.minimum.reduceat(extremes["least"], first),
            np.maximum.reduceat(extremes["greatest"], first),
        )
        return cls(spans[first], least, greatest)

    def surpass(self, of_least: Ints, of_greatest: Ints, first: Ints, extremes: NDArray[np.void]) -> Chosen:
        """Return whether spans have a lesser and a greater value than these strides: shape (strides, axes).

        `of_least`, `of_greatest`: the span for each of the extremes, in the same shape. `first`: the first span of
        each stride. An equal value in it is before the stride, and the first of equal values is the least one. One in
        the last span is behind it, and the last of equal values is the greatest one.
        """
        axis = np.arange(len(AXES))
        at_least, at_greatest = self._places(of_least), self._places(of_greatest)
        least, greatest = self.least[at_least, axis], self.greatest[at_greatest, axis]
        has_lesser = (least < extremes["least"]) | ((least == extremes["least"]) & (of_least == first))
        has_greater = (greatest > extremes["greatest"]) | ((greatest == extremes["greatest"]) & (of_greatest != first))
        is_known = (self.span[at_least] == of_least) & (self.span[at_greatest] == of_greatest)
        surpass: Chosen = is_known & has_lesser & has_greater
        return surpass

    def _places(self, spans: Ints) -> Ints:
        return np.minimum(np.searchsorted(self.span, spans), len(self.span) - 1)
