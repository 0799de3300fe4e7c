"""Exact statistics of any number of readings: counts, ranges, sums, and order statistics of groups of items."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec
import numpy as np

from query_api.errors import UnknownDevices
from query_api.statistics.blocks.computing import OF_AN_ITEM, computed
from query_api.statistics.blocks.layout import AXES, STANDARD, Floats, Layout
from query_api.statistics.blocks.reading.cover import Covered, cover
from query_api.statistics.blocks.reading.ends import CHUNK_BYTES, read_ends
from query_api.statistics.blocks.reading.first_and_last import Ends, read_first_and_last
from query_api.statistics.blocks.reading.gathered import Gathered
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.order_statistics import Lists, median_deviations, order_statistics
from query_api.statistics.blocks.reading.pieces import KEPT, PIECE
from query_api.statistics.blocks.reading.tail import read_tails
from query_api.statistics.blocks.selection.deviations import middle
from query_api.statistics.blocks.selection.narrowing import FEW
from shared.postgres.connections import Connection

WHOLE = 4_096
"""Readings of which all values are read faster than few values are found by marks."""
MEDIAN = 0.5
"""The fraction of the median."""
Pair = tuple[float, float]


class Needs(msgspec.Struct, frozen=True):
    """What figures are computed from, besides count, range and sum.

    `fractions`: 0 to 1, of order statistics. `squares`: the sum of squares. `deviations`: the absolute deviations from
    the median, which needs the fraction MEDIAN. `ends`: the first and the last value.
    """

    fractions: tuple[float, ...] = ()
    squares: bool = False
    deviations: bool = False
    ends: bool = False

    def __or__(self, other: "Needs") -> "Needs":
        """Return what either needs."""
        return Needs(
            tuple(sorted({*self.fractions, *other.fractions})),
            self.squares or other.squares,
            self.deviations or other.deviations,
            self.ends or other.ends,
        )


class AxisStatistics(msgspec.Struct, frozen=True):
    """Statistics of one axis of a group. `count` is at least 1. None stands for what is not needed.

    `squares`: the exact sum of squares. `pairs`: by fraction p, the values at the ranks floor and ceil of
    p (count - 1), counted from 0. `deviations`: the two middle values of the absolute deviations from the median.
    `ends`: the first and the last value, with their times.
    """

    count: int
    least: float
    greatest: float
    total: Decimal
    squares: Decimal | None
    pairs: Mapping[float, Pair]
    deviations: Pair | None
    ends: Ends | None


class Statistics(msgspec.Struct, frozen=True):
    """The statistics of all groups. `from_blocks`, `from_rows`: how many readings came from where."""

    groups: Sequence[Sequence[AxisStatistics] | None]
    from_blocks: int
    from_rows: int


class Limits(msgspec.Struct, frozen=True):
    """Limits of one read, which tests lower.

    `whole`: readings of which all values are read. `few`: values that are read without guides.

    `piece`: rows that one statement reads of a device. `kept`: readings whose values are kept in memory. `chunk_bytes`:
    of columns that one statement reads.
    """

    whole: int = WHOLE
    few: int = FEW
    piece: int = PIECE
    kept: int = KEPT
    chunk_bytes: int = CHUNK_BYTES


LIMITS = Limits()


async def read_statistics(
    connection: Connection, items: Items, needs: Needs, layout: Layout = STANDARD, limits: Limits = LIMITS
) -> Statistics:
    """Return the statistics of x, y and z of each group, in the caller's snapshot; None for a group without readings.

    Raises UnknownDevices.
    """
    covered, gathered = await gather(connection, items, with_squares=needs.squares, layout=layout, limits=limits)
    lists = await Lists.of(connection, gathered, layout)
    pairs = await order_statistics(lists, needs.fractions, limits.whole, limits.few)
    deviations = await _deviations(lists, needs, pairs, limits.few)
    ends = await read_first_and_last(connection, items, covered, lists.blocks) if needs.ends else None
    found = _Found(gathered, needs, pairs, deviations, ends)
    groups = await computed(OF_AN_ITEM * items.count, lambda: [_group(found, group) for group in range(items.count)])
    return Statistics(groups, gathered.from_blocks, gathered.rows)


async def gather(
    connection: Connection, items: Items, *, with_squares: bool, layout: Layout = STANDARD, limits: Limits = LIMITS
) -> tuple[Covered, Gathered]:
    """Return the blocks and readings of all groups, in the caller's snapshot. Raises UnknownDevices."""
    gathered = Gathered(items.count, with_squares=with_squares)
    covered = await cover(connection, items, gathered, layout)
    if covered.unknown:
        raise UnknownDevices([int(items.devices[item]) for item in covered.unknown])
    await read_tails(connection, items, covered, gathered, layout, limits.piece, limits.kept)
    await read_ends(connection, items, covered.at_ends, gathered, layout, limits.chunk_bytes, limits.kept)
    return covered, gathered


async def _deviations(lists: Lists, needs: Needs, pairs: Floats, few: int) -> Floats | None:
    """Return the two middle absolute deviations from the median of each list: shape (2, lists)."""
    if not needs.deviations:
        return None
    lower, upper = pairs[:, needs.fractions.index(MEDIAN)]
    center = middle(*np.where(lists.counts > 0, (lower, upper), 0.0))
    return await median_deviations(lists, center, few)


class _Found(msgspec.Struct, frozen=True):
    """What was found of all groups. `pairs`: shape (2, fractions, lists). `deviations`: shape (2, lists)."""

    gathered: Gathered
    needs: Needs
    pairs: Floats
    deviations: Floats | None
    ends: Sequence[Sequence[Ends] | None] | None


def _group(found: _Found, group: int) -> Sequence[AxisStatistics] | None:
    if found.gathered.count[group] == 0:
        return None
    return [_axis(found, axis, group) for axis in range(len(AXES))]


def _axis(found: _Found, axis: int, group: int) -> AxisStatistics:
    gathered, fractions = found.gathered, found.needs.fractions
    one = axis * gathered.groups + group
    ends = None if found.ends is None else found.ends[group]
    return AxisStatistics(
        count=int(gathered.count[group]),
        least=float(gathered.least[axis, group]),
        greatest=float(gathered.greatest[axis, group]),
        total=gathered.totals[axis][group],
        squares=None if gathered.squares is None else gathered.squares[axis][group],
        pairs=dict(zip(fractions, zip(*found.pairs[:, :, one].tolist(), strict=True), strict=True)),
        deviations=None if found.deviations is None else tuple(found.deviations[:, one].tolist()),
        ends=None if ends is None else ends[axis],
    )
