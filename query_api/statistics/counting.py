"""How many values of lists are below given bounds, where most values are unread.

In a run, two samples enclose each bound: the place of the bound, the number of values below it, lies between their
positions. Only where these differ must values be read. Guides narrow the places before.

    places = Places.of(runs, bounds)
    if places.slices().size.sum() > FEW:
        places = places.narrowed(...)  # with the guides of the slices
    counts = places.found(...)  # with the values of the slices
"""

from collections.abc import Sequence
from typing import Self

import msgspec
import numpy as np

from query_api.statistics.blocks.layout import Floats, Ints
from query_api.statistics.blocks.selection.narrowing import Samples
from query_api.statistics.blocks.selection.runs import Runs

GAP = 256
"""Values between two slices that are read with them. Another slice takes longer than 2 kB."""


def first_not_below(values: Floats, begin: Ints, end: Ints, bounds: Floats) -> Ints:
    """Return, for each bound, the first place from `begin` to `end` whose value is not below it; `end` if all are.

    The values from `begin` to `end` are in ascending order.
    """
    low, high = begin.copy(), end.copy()
    while len(places := np.flatnonzero(low < high)):
        middle = (low[places] + high[places]) // 2
        is_below = values[middle] < bounds[places]
        low[places[is_below]] = middle[is_below] + 1
        high[places[~is_below]] = middle[~is_below]
    return low


class Places(msgspec.Struct, frozen=True):
    """The places of bounds in runs, of which each is known to lie from `start` to `end`, both included.

    For each place: `run`, ascending. `bound`: its number in all bounds; ascending within a run. `value`: of the bound.
    `bounds`: the number of all bounds.
    """

    runs: Runs
    bounds: int
    run: Ints
    bound: Ints
    value: Floats
    start: Ints
    end: Ints

    @classmethod
    def of(cls, runs: Runs, bounds: Sequence[Floats]) -> Self:
        """Return the places of the bounds of each list, in ascending order, in each of its runs, by the samples."""
        numbers = np.array([len(own) for own in bounds], np.int64)
        first = np.cumsum(numbers) - numbers
        each = numbers[runs.of]
        run = np.repeat(np.arange(len(runs)), each)
        bound = np.arange(len(run)) - np.repeat(np.cumsum(each) - each, each) + first[runs.of[run]]
        value = np.concatenate([np.empty(0), *bounds])[bound]
        places = cls(runs, int(numbers.sum()), run, bound, value, runs.start[run], runs.end[run])
        return places._narrowed(run[places._open], Samples(runs.samples, runs.value, runs.position))

    @property
    def _open(self) -> Ints:
        """The places that are not known exactly."""
        return np.flatnonzero(self.start < self.end)

    def slices(self) -> Runs:
        """Return the parts of the runs in which places lie that are not known exactly."""
        begins, chosen = self._begins, self._open
        start = self.start[chosen[begins]]
        last = np.append(begins[1:], len(chosen))[: len(begins)] - 1
        end = self.end[chosen[last]]
        run = self.run[chosen[begins]]
        none = np.zeros(len(run), np.int64)
        return Runs(self.runs.of[run], self.runs.id[run], start, end, none, np.empty(0), np.empty(0, np.int64))

    @property
    def _begins(self) -> Ints:
        """Which of the open places are the first in a slice."""
        chosen = self._open
        run, start, end = self.run[chosen], self.start[chosen], self.end[chosen]
        is_first = np.ones(len(chosen), bool)
        is_first[1:] = (run[1:] != run[:-1]) | (start[1:] > end[:-1] + GAP)
        return np.flatnonzero(is_first)

    def _slice(self) -> Ints:
        """Return the slice of each open place."""
        begins, number = self._begins, len(self._open)
        return np.repeat(np.arange(len(begins)), np.diff(np.append(begins, number)))

    def narrowed(self, guides: Samples) -> Self:
        """Return closer places, by samples of the slices."""
        return self._narrowed(self._slice(), guides)

    def _narrowed(self, sampled: Ints, samples: Samples) -> Self:
        """Return closer places. `sampled`: for each open place, the place in `samples` of its run or slice."""
        chosen = self._open
        ends = np.cumsum(samples.samples)[sampled]
        first = ends - samples.samples[sampled]
        at = first_not_below(samples.value, first, ends, self.value[chosen])
        position = np.append(samples.position, 0)  # so that each index is within it
        start, end = self.start.copy(), self.end.copy()
        start[chosen] = np.where(at > first, np.maximum(position[at - 1] + 1, start[chosen]), start[chosen])
        end[chosen] = np.where(at < ends, np.minimum(position[at], end[chosen]), end[chosen])
        return msgspec.structs.replace(self, start=start, end=end)

    def found(self, values: Floats) -> Ints:
        """Return the number of values below each bound. `values`: those of the slices, one after the other."""
        chosen, slices = self._open, self.slices()
        shift = (np.cumsum(slices.size) - slices.size - slices.start)[self._slice()]
        start, end = self.start[chosen] + shift, self.end[chosen] + shift
        place = self.start.copy()
        place[chosen] = first_not_below(values, start, end, self.value[chosen]) - shift
        below = place - self.runs.start[self.run]
        return np.bincount(self.bound, weights=below, minlength=self.bounds).astype(np.int64)
