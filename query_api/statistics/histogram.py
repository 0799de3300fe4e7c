"""Histograms: exact counts of the values in bins of equal width."""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated

import msgspec
import numpy as np

from query_api.statistics.blocks.computing import computed
from query_api.statistics.blocks.layout import AXES, STANDARD, Floats, Ints, Layout
from query_api.statistics.blocks.reading.cover import ONE_PLAN
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.order_statistics import Lists
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import LIMITS, Limits, gather
from query_api.statistics.blocks.selection.runs import Runs
from query_api.statistics.counting import Places
from query_api.statistics.source import Source
from shared.postgres.connections import Connection
from shared.readings.model import to_microseconds

AT_ONCE = 1 << 20
"""Values that one statement reads, about: 8 MB. PostgreSQL takes longer to sort more than for another statement."""
OF_A_PLACE = 256
"""Values that are read for a place, about: those from one guide to the next, and those between two near slices."""


class Bins(msgspec.Struct, frozen=True):
    """The bins of an axis."""

    edges: Annotated[
        list[float],
        msgspec.Meta(
            description="The edges of the bins in ascending order: one more than there are bins. A bin includes its "
            "lower edge; only the last one includes its upper edge. Empty if there are no readings and no bounds.",
            examples=[[0.0, 0.5, 1.0]],
        ),
    ]
    counts: Annotated[
        list[int], msgspec.Meta(description="The exact number of values in each bin.", examples=[[12, 30]])
    ]
    below: Annotated[int, msgspec.Meta(description="The number of values below the first edge.", examples=[0])]
    above: Annotated[int, msgspec.Meta(description="The number of values above the last edge.", examples=[0])]


class Histogram(msgspec.Struct, frozen=True):
    """The number of readings, the bins of each wanted axis, and where the readings came from."""

    count: int
    axes: dict[str, Bins]
    source: Source


async def read_histogram(
    connection: Connection,
    device: int,
    start: datetime | None,
    end: datetime | None,
    axes: Collection[str],
    bins: int,
    bounds: tuple[float, float] | None,
    layout: Layout = STANDARD,
    limits: Limits = LIMITS,
    at_once: int = AT_ONCE,
) -> Histogram:
    """Return the histograms of the readings from start to end, both included. None leaves a side open.

    `bounds`: the first and the last edge; None: the least and the greatest value of each axis. Raises UnknownDevices.
    """
    items = Items.together([device], *(None if at is None else to_microseconds(at) for at in (start, end)))
    async with snapshot(connection, ONE_PLAN):
        _, gathered = await gather(connection, items, with_squares=False, layout=layout, limits=limits)
        lists = await Lists.of(connection, gathered, layout)
        count = int(gathered.count[0])
        ranges = [(float(gathered.least[axis, 0]), float(gathered.greatest[axis, 0])) for axis in range(len(AXES))]
        known = [
            _edges(bounds, own if count else None, bins) if axis in axes else []
            for axis, own in zip(AXES, ranges, strict=True)
        ]
        below = await _count_below(lists, [_bounds(own) for own in known], limits.few, at_once)
    found = zip(AXES, known, below, strict=True)
    wanted = {axis: _bins(own, counts, count) for axis, own, counts in found if axis in axes}
    return Histogram(count, wanted, Source(gathered.from_blocks, gathered.rows))


def _edges(bounds: tuple[float, float] | None, values: tuple[float, float] | None, bins: int) -> list[float]:
    """Return the edges of an axis. `values`: its least and greatest value; None if there are none."""
    if bounds is not None:
        return edges(*bounds, bins)
    if values is None:
        return []
    return edges(*values, bins if values[0] < values[1] else 1)


def edges(first: float, last: float, bins: int) -> list[float]:
    """Return the edges of bins of equal width. Edge n is first + n (last - first) / bins, rounded once."""
    (low, under), (high, over) = first.as_integer_ratio(), last.as_integer_ratio()
    denominator = max(under, over)  # powers of 2
    low, high = low * (denominator // under), high * (denominator // over)
    return [(low * (bins - n) + high * n) / (denominator * bins) for n in range(bins + 1)]


def _bounds(own: Sequence[float]) -> Floats:
    """Return values such that the bins are counted by the values below them: the last edge belongs to its bin."""
    bounds = np.array(own, np.float64)
    bounds[-1:] = np.nextafter(bounds[-1:], np.inf)
    return bounds


def _bins(own: list[float], below: Ints, count: int) -> Bins:
    if not own:
        return Bins([], [], 0, 0)
    return Bins(own, np.diff(below).tolist(), int(below[0]), count - int(below[-1]))


async def _count_below(lists: Lists, bounds: Sequence[Floats], few: int, at_once: int) -> list[Ints]:
    """Return, for each list, the number of its values below each of its bounds."""
    numbers = np.array([len(own) for own in bounds])
    below = np.zeros(int(numbers.sum()), np.int64)
    every = await lists.runs()
    for runs in every.in_parts(_parts(every, numbers, at_once)):
        below += await _count_in(lists, runs, bounds, few)
    return np.split(below, np.cumsum(numbers)[:-1])


def _parts(runs: Runs, numbers: Ints, at_once: int) -> Ints:
    """Return the part of each run, in ascending order. `numbers`: how many bounds each list has."""
    wanted = numbers[runs.of]
    return np.cumsum(wanted + np.minimum(runs.size, OF_A_PLACE * wanted)) // at_once


async def _count_in(lists: Lists, runs: Runs, bounds: Sequence[Floats], few: int) -> Ints:
    """Return the number of values of the runs that are below each of all bounds."""
    work = sum(map(len, bounds)) * len(runs)
    places = await computed(work, partial(Places.of, runs, bounds))
    slices = places.slices()
    if slices.size.sum() > few:
        places = await computed(work, partial(places.narrowed, await lists.guides(slices)))
    return await computed(work, partial(places.found, await lists.values(places.slices())))
