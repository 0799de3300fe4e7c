"""Order statistics of absolute deviations |x - center|, by the sorted runs of x (`narrowing.py`).

The differences x - center and center - x of all values of a list make the mirrored list. It is twice as long and
symmetric, and its upper half are the absolute deviations. So rank k of n deviations is rank n + k of the mirrored list.
The differences are rounded, and rounding keeps their order: a run in ascending order gives two, of which one is
reversed. Where a run crosses the center need not be known.

Each run is left out up to its last sample below 0. So about as many samples remain as the original runs have.
"""

from typing import Self, TypeVar

import msgspec
import numpy as np

from query_api.statistics.blocks.layout import Floats, Ints, spread
from query_api.statistics.blocks.selection.narrowing import Samples
from query_api.statistics.blocks.selection.runs import Runs

_Number = TypeVar("_Number", float, Floats)


def middle(lower: _Number, upper: _Number) -> _Number:
    """Return the median, by the two middle values: (a + b) / 2, rounded once. Zero has no sign."""
    return (lower + upper) / 2 + 0.0


class Mirrored(msgspec.Struct, frozen=True):
    """The mirrored lists. `center`: of each list. `size`: by the id of each original run, the number of its values.

    `runs`: the run x - center has the id 2 * id, and the run center - x the id 2 * id + 1. `left_out`: of each list,
    the number of values that were left out.
    """

    runs: Runs
    center: Floats
    size: Ints
    left_out: Ints

    @classmethod
    def of(cls, runs: Runs, center: Floats) -> Self:
        """Return the mirrored lists of whole runs."""
        size = np.zeros(int(runs.id.max(initial=-1)) + 1, np.int64)
        size[runs.id] = runs.end
        backwards = _backwards(runs.samples)
        of_sample = runs.of[runs.run]
        ahead = runs.value - center[of_sample]
        mirrored = Runs.grouped(
            of=np.concatenate((runs.of, runs.of)),
            id=np.concatenate((2 * runs.id, 2 * runs.id + 1)),
            end=np.concatenate((runs.end, runs.end)),
            samples=np.concatenate((runs.samples, runs.samples)),
            value=np.concatenate((ahead, -ahead[backwards])),
            position=np.concatenate((runs.position, (runs.end[runs.run] - 1 - runs.position)[backwards])),
        )
        runs = _without_low(mirrored)
        left_out = np.bincount(runs.of, weights=runs.start, minlength=len(center)).astype(np.int64)
        return cls(runs, center, size, left_out)

    def ranks(self, counts: Ints, ranks: Ints) -> Ints:
        """Return the ranks in the mirrored lists, by those in the deviations. `counts`: deviations of each list."""
        return counts + ranks - self.left_out

    def original(self, runs: Runs) -> Runs:
        """Return the parts of the original runs that give these parts of mirrored runs, without samples."""
        own, is_reversed = np.divmod(runs.id, 2)
        start, end = self._turned(own, runs.end), self._turned(own, runs.start)
        return Runs(
            of=runs.of,
            id=own,
            start=np.where(is_reversed, start, runs.start),
            end=np.where(is_reversed, end, runs.end),
            samples=np.zeros(len(own), np.int64),
            value=np.empty(0),
            position=np.empty(0, np.int64),
        )

    def values(self, runs: Runs, originals: Floats) -> Floats:
        """Return the values of parts of mirrored runs. `originals`: those of the original parts."""
        return self._mirrored(runs, runs.size, originals)

    def guides(self, runs: Runs, originals: Samples) -> Samples:
        """Return the guides of parts of mirrored runs. `originals`: those of the original parts."""
        counts = originals.samples
        value = self._mirrored(runs, counts, originals.value)
        run = np.repeat(np.arange(len(runs)), counts)
        own, is_reversed = np.divmod(runs.id[run], 2)
        turned = self._turned(own, originals.position + 1)[_backwards(counts)]
        return Samples(counts, value, np.where(is_reversed, turned, originals.position))

    def _turned(self, own: Ints, position: Ints) -> Ints:
        """Return positions counted from the end of the original run."""
        return self.size[own] - position

    def _mirrored(self, runs: Runs, counts: Ints, originals: Floats) -> Floats:
        """Return the differences from the center of `counts` values of each run, in the order of the mirrored run."""
        run = np.repeat(np.arange(len(runs)), counts)
        center, is_reversed = self.center[runs.of[run]], runs.id[run] % 2 == 1
        ahead = originals - center
        return np.where(is_reversed, -ahead[_backwards(counts)], ahead) + 0.0


def _without_low(runs: Runs) -> Runs:
    """Return the runs from their last sample below 0 on."""
    negative = np.bincount(runs.run[runs.value < 0], minlength=len(runs))
    dropped = np.maximum(negative - 1, 0)
    first = np.cumsum(runs.samples) - runs.samples
    position = np.append(runs.position, 0)  # so that the index of a run without samples is within it
    start = np.where(negative > 0, position[first + dropped], runs.start)
    kept = spread(runs.samples) >= dropped[runs.run]
    return Runs(runs.of, runs.id, start, runs.end, runs.samples - dropped, runs.value[kept], runs.position[kept])


def _backwards(counts: Ints) -> Ints:
    """Return the places of the elements of parts of these lengths, each in reverse: [2, 3] gives [1, 0, 4, 3, 2]."""
    return np.repeat(np.cumsum(counts), counts) - 1 - spread(counts)
