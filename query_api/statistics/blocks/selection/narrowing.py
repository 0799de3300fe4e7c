"""Exact order statistics of lists whose values are mostly unread.

The marks of all runs of a list give two values around a wanted rank: low <= x[rank] <= high. If each value of the list
is clamped to [low, high], x[rank] stays the same, and the list in ascending order is: the values before the slices
between the marks, which are all `low`; the slices; and the values behind, which are all `high`. So only the slices
have to be read, and no value that equals a mark.

The guides inside of the slices narrow them again in the same way. Then the values are read and partitioned.

    narrowed = narrow_all(runs, lists, low_ranks, high_ranks)
    if narrowed.size > FEW:
        narrowed = narrowed.refined(...)  # with the guides of narrowed.runs
    x = narrowed.found(...)  # with the values of narrowed.runs
"""

from typing import Self

import msgspec
import numpy as np

from query_api.statistics.blocks.layout import Floats, Ints
from query_api.statistics.blocks.selection.runs import Runs, brackets, narrow

FEW = 40_000
"""Values that are read faster than guides and fewer values."""
_SORTED = 2_000
"""Values that are sorted as fast as they are partitioned."""
_NONE = np.empty(0, np.int64)
_NO_VALUES = np.empty(0, np.float64)


class Clamp(msgspec.Struct, frozen=True):
    """How the two values at the ranks of each task follow from the slices that were not clamped away.

    `low`, `high`: the clamp of each task. `ranks`: two ranks of each task, counted from the first value of its slices;
    a rank before the slices is negative. `size`: the number of values in the slices of each task.
    """

    low: Floats
    high: Floats
    ranks: Ints
    size: Ints

    @property
    def inner_ranks(self) -> Ints:
        """The ranks in the slices; the nearest one where a rank lies outside of them."""
        return np.clip(self.ranks, 0, np.maximum(self.size - 1, 0))

    def apply(self, inner: Floats) -> Floats:
        """Return the values at the ranks. `inner`: the values of the slices at `inner_ranks`."""
        inside = np.clip(inner, self.low, self.high)
        return np.where(self.ranks < 0, self.low, np.where(self.ranks >= self.size, self.high, inside))


class Samples(msgspec.Struct, frozen=True):
    """Samples of runs, as `Runs` has them: how many of each run, their values and their positions."""

    samples: Ints
    value: Floats
    position: Ints


class Narrowed(msgspec.Struct, frozen=True):
    """The slices that must be read, and how the wanted values follow from them.

    A task is a figure of a list: task figure * lists + list. `runs`: the slices, whose lists are the tasks. `clamps`:
    those of the marks, and then of the guides. `shape`: (2, figures, lists).
    """

    runs: Runs
    clamps: tuple[Clamp, ...]
    shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        """The number of values in the slices."""
        return int(self.runs.size.sum())

    @property
    def _tasks(self) -> int:
        return self.shape[1] * self.shape[2]

    def refined(self, guides: Samples) -> Self:
        """Return narrower slices, by samples of `runs`."""
        own = self.runs
        runs = Runs(own.of, own.id, own.start, own.end, guides.samples, guides.value, guides.position)
        low_ranks, high_ranks = self.clamps[-1].inner_ranks
        inner, clamp = _narrowed(runs, self._tasks, low_ranks[np.newaxis], high_ranks[np.newaxis])
        return type(self)(inner, (*self.clamps, clamp), self.shape)

    def found(self, values: Floats) -> Floats:
        """Return x[low rank] and x[high rank] of each figure and list. `values`: those of `runs`, one after the other.

        Shape: (2, figures, lists). The values of a list without values have no meaning.
        """
        ranks, sizes = self.clamps[-1].inner_ranks, self.runs.sizes(self._tasks)
        begins = np.cumsum(sizes) - sizes
        in_order = values.copy()
        for begin, size, of in zip(begins.tolist(), sizes.tolist(), ranks.T, strict=True):
            own = in_order[begin : begin + size]
            if size > _SORTED:
                own.partition(of)
            else:
                own.sort()
        has_values = sizes > 0
        found = np.zeros(ranks.shape)
        found[:, has_values] = in_order[(begins + ranks)[:, has_values]]
        for clamp in reversed(self.clamps):
            found = clamp.apply(found)
        return found.reshape(self.shape)


def narrow_all(runs: Runs, lists: int, low_ranks: Ints, high_ranks: Ints) -> Narrowed:
    """Return the slices that must be read for x[low rank] and x[high rank] of each figure and list, by the marks.

    Shape of the ranks: (figures, lists). The ranks of a list without values are 0.
    """
    inner, clamp = _narrowed(runs, lists, low_ranks, high_ranks)
    return Narrowed(inner, (clamp,), (2, *low_ranks.shape))


def _narrowed(runs: Runs, lists: int, low_ranks: Ints, high_ranks: Ints) -> tuple[Runs, Clamp]:
    low, high = brackets(runs, lists, low_ranks, high_ranks)
    parts = [narrow(runs, *bounds) for bounds in zip(low, high, strict=True)]
    run = np.concatenate([slices.run for slices, _ in parts])
    figure = np.repeat(np.arange(len(parts)), [len(slices.run) for slices, _ in parts])
    inner = Runs(
        of=figure * lists + runs.of[run],
        id=runs.id[run],
        start=np.concatenate([slices.start for slices, _ in parts]),
        end=np.concatenate([slices.end for slices, _ in parts]),
        samples=np.zeros(len(run), np.int64),
        value=_NO_VALUES,
        position=_NONE,
    )
    before = np.concatenate([counts for _, counts in parts])
    ranks = np.stack((low_ranks.ravel(), high_ranks.ravel())) - before
    return inner, Clamp(low.ravel(), high.ravel(), ranks, inner.sizes(len(before)))
