"""Exact statistics of any number of readings: counts, ranges, sums, and order statistics of groups of items."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial

import msgspec
import numpy as np

from query_api.errors import UnknownDevices
from query_api.statistics.blocks.computing import OF_AN_ITEM, computed
from query_api.statistics.blocks.layout import AXES, STANDARD, Floats, Ints, Layout
from query_api.statistics.blocks.reading.cover import cover
from query_api.statistics.blocks.reading.ends import read_ends
from query_api.statistics.blocks.reading.gathered import Blocks, Gathered
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.pieces import PIECE
from query_api.statistics.blocks.reading.slices import read_guides, read_values
from query_api.statistics.blocks.reading.tail import KEPT, read_tails
from query_api.statistics.blocks.runs import Runs
from query_api.statistics.blocks.selection import FEW, Narrowed, narrow_all
from shared.postgres.connections import Connection


class AxisStatistics(msgspec.Struct, frozen=True):
    """Statistics of one axis of a group. `count` is at least 1.

    `squares`: the exact sum of squares; None if it was not wanted. `pairs`: by wanted fraction p, the values at the
    ranks floor and ceil of p (count - 1), counted from 0.
    """

    count: int
    least: float
    greatest: float
    total: Decimal
    squares: Decimal | None
    pairs: Mapping[float, tuple[float, float]]


class Statistics(msgspec.Struct, frozen=True):
    """The statistics of all groups. `from_blocks`, `from_rows`: how many readings came from where."""

    groups: Sequence[Sequence[AxisStatistics] | None]
    from_blocks: int
    from_rows: int


class Limits(msgspec.Struct, frozen=True):
    """Limits of one read, which tests lower. `few`: values that are read without guides.

    `piece`: rows that one statement reads of a device. `kept`: rows whose values are kept in memory.
    """

    few: int = FEW
    piece: int = PIECE
    kept: int = KEPT


LIMITS = Limits()


async def read_statistics(
    connection: Connection,
    items: Items,
    fractions: Sequence[float],
    *,
    with_squares: bool,
    layout: Layout = STANDARD,
    limits: Limits = LIMITS,
) -> Statistics:
    """Return the statistics of x, y and z of each group, in the caller's snapshot; None for a group without readings.

    `fractions`: 0 to 1, of the wanted order statistics. Raises UnknownDevices.
    """
    gathered = Gathered(items.count, with_squares=with_squares)
    covered = await cover(connection, items, gathered)
    if covered.unknown:
        raise UnknownDevices([int(items.devices[item]) for item in covered.unknown])
    await read_tails(connection, items, covered, gathered, layout, limits.piece, limits.kept)
    await read_ends(connection, items, covered.at_ends, gathered, layout)
    found = await _order_statistics(connection, gathered, fractions, layout, limits.few)
    groups = await computed(
        OF_AN_ITEM * items.count, lambda: [_group(gathered, group, fractions, found) for group in range(items.count)]
    )
    return Statistics(groups, gathered.from_blocks, gathered.rows)


async def _order_statistics(
    connection: Connection, gathered: Gathered, fractions: Sequence[float], layout: Layout, few: int
) -> Floats:
    """Return the pairs of each fraction: shape (2, fractions, axes * groups)."""
    blocks, runs = await computed(gathered.values, lambda: _runs(gathered, layout))
    if not fractions:
        return np.empty((2, 0, len(AXES) * gathered.groups))
    narrowed = await computed(len(fractions) * len(runs.value), lambda: _narrowed(gathered, runs, fractions))
    if narrowed.size > few:
        guides = await read_guides(connection, blocks, narrowed.runs, layout)
        narrowed = await computed(len(guides.value), partial(narrowed.refined, guides))
    values = await read_values(connection, blocks, gathered, narrowed.runs)
    return await computed(len(values), partial(narrowed.found, values))


def _runs(gathered: Gathered, layout: Layout) -> tuple[Blocks, Runs]:
    blocks = gathered.blocks()
    return blocks, gathered.runs(blocks, layout)


def _narrowed(gathered: Gathered, runs: Runs, fractions: Sequence[float]) -> Narrowed:
    low_ranks, high_ranks = ranks(np.tile(gathered.count, len(AXES)), fractions)
    return narrow_all(runs, len(AXES) * gathered.groups, low_ranks, high_ranks)


def ranks(counts: Ints, fractions: Sequence[float]) -> tuple[Ints, Ints]:
    """Return floor and ceil of p (count - 1) for each fraction p and each count; 0 for a count of 0."""
    places = np.asarray(fractions)[:, np.newaxis] * np.maximum(counts - 1, 0).astype(np.float64)
    return np.floor(places).astype(np.int64), np.ceil(places).astype(np.int64)


def _group(
    gathered: Gathered, group: int, fractions: Sequence[float], found: Floats
) -> Sequence[AxisStatistics] | None:
    if gathered.count[group] == 0:
        return None
    lists = [axis * gathered.groups + group for axis in range(len(AXES))]
    pairs = [dict(zip(fractions, zip(*found[:, :, one].tolist(), strict=True), strict=True)) for one in lists]
    return [_axis(gathered, axis, group, own) for axis, own in enumerate(pairs)]


def _axis(gathered: Gathered, axis: int, group: int, pairs: Mapping[float, tuple[float, float]]) -> AxisStatistics:
    return AxisStatistics(
        count=int(gathered.count[group]),
        least=float(gathered.least[axis, group]),
        greatest=float(gathered.greatest[axis, group]),
        total=gathered.totals[axis][group],
        squares=None if gathered.squares is None else gathered.squares[axis][group],
        pairs=pairs,
    )
