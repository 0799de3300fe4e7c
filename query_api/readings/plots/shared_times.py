"""One column of times for the points of several lines."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from query_api.readings.plots.downsampling import Times, Values
from query_api.statistics.blocks.layout import spread

Column = list[float | None]


def share(lines: Sequence[tuple[Times, Values]]) -> tuple[Times, list[Column]]:
    """Return the times of all lines, and the values of each line at these times; None where it has no point.

    A time is repeated as often as it is in the line that has it most often.
    """
    times = np.unique(np.concatenate([line[0] for line in lines]))
    most = 1 + max(len(line[0]) for line in lines)
    keys = [np.searchsorted(times, line[0]) * most + _repetitions(line[0]) for line in lines]
    every = np.unique(np.concatenate(keys))
    columns = [_column(np.searchsorted(every, key), line[1], len(every)) for key, line in zip(keys, lines, strict=True)]
    return times[every // most], columns


def _repetitions(times: Times) -> NDArray[np.int64]:
    """Return 0 for each first occurrence of a time, 1 for the second one, and so on. `times`: in order."""
    return spread(np.unique(times, return_counts=True)[1])


def _column(places: NDArray[np.intp], values: Values, length: int) -> Column:
    column: Column = [None] * length
    for place, value in zip(places.tolist(), values.tolist(), strict=True):
        column[place] = value
    return column
