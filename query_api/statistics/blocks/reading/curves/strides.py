"""Strides of blocks of readings: which of them must be read for the extremes of spans of time."""

from collections.abc import Iterator
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from query_api.statistics.blocks.building import EXTREMES_COLUMN
from query_api.statistics.blocks.layout import AXES, Ints, Layout, Times, spread
from query_api.statistics.blocks.reading.slices import Parts
from shared.readings.model import Microseconds

COLUMNS = 1 + len(AXES)
"""Times, x, y and z."""
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

    def taken(self, chosen: Ints | slice) -> Self:
        """Return the chosen strides."""
        return type(self)(*(getattr(self, field.name)[chosen] for field in msgspec.structs.fields(self)))

    def is_cut(self, spans: Spans) -> Chosen:
        """Return which strides reach over an end of the period."""
        cut: Chosen = (self.start < spans.first) | (self.end > spans.last)
        return cut

    def needed(self, spans: Spans, late: Times) -> Chosen:
        """Return the strides of which all readings are needed."""
        needed: Chosen = self.is_cut(spans) | (spans.of(self.start) != spans.of(self.end))
        needed |= np.searchsorted(late, self.start) < np.searchsorted(late, self.end, side="right")
        first = int(np.searchsorted(self.start, spans.first))
        needed[: first + 1] = needed[-1:] = True  # the first and the last reading of the period may be in them
        return needed

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

    def parts_of_readings(self, device_id: int, layout: Layout) -> Parts:
        """Return the parts of all times, then those of all x, y and z."""
        begin, end = self._runs()
        start = self.number[begin] * layout.time_stride
        behind = self.number[end - 1] * layout.time_stride + self.size[end - 1]
        axis = np.repeat(np.arange(COLUMNS), len(begin))
        level, first, start, behind = (
            np.tile(column, COLUMNS) for column in (self.level[begin], self.first[begin], start, behind)
        )
        return Parts(np.full(len(axis), device_id), level, first, axis, start, behind)
