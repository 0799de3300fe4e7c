"""Merging: neighbouring blocks of a level become one block of the level above, which has all their values sorted."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

import msgspec
import numpy as np

from query_api.statistics.blocks import exact, tables
from query_api.statistics.blocks.building import Axis, AxisSummary, Block, Key
from query_api.statistics.blocks.cutting import ROUND_STEPS, months_of
from query_api.statistics.blocks.layout import AXES, BASE, STANDARD, TOP, Floats, Ints, Layout
from query_api.statistics.blocks.sealing.sealed_device import changed, locked
from shared.postgres import arrays
from shared.postgres.arrays import Moment
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds

ROUNDNESS = 20
"""A block begins at a round time if its first reading follows within this part of the step."""


async def merge(connection: Connection, device_id: int, layout: Layout = STANDARD) -> int:
    """Merge the device's blocks, each group in a transaction, until none is left; return the number of new blocks.

    Raises WrongBlock.
    """
    made = 0
    while await merge_next(connection, device_id, layout):
        made += 1
    return made


async def merge_next(connection: Connection, device_id: int, layout: Layout = STANDARD) -> bool:
    """Merge one group of blocks of the lowest level that has one, in one transaction; return whether there was one."""
    for level in range(BASE, TOP):
        if await merge_step(connection, device_id, level, layout):
            return True
    return False


class Child(msgspec.Struct, frozen=True):
    """A block that is not merged yet."""

    first: Microseconds
    last: Microseconds
    count: int


_CHILDREN = """
    SELECT first, last, count FROM blocks WHERE device_id = %s AND level = %s AND NOT merged ORDER BY first
"""
_ABOVE = "SELECT array_agg(first ORDER BY first) FROM blocks WHERE device_id = %s AND level = %s"


async def merge_step(connection: Connection, device_id: int, level: int, layout: Layout) -> bool:
    """Merge one group of blocks of the level, in one transaction; return whether there was one."""
    async with locked(connection, device_id) as device, arrays.cursor(connection) as cursor:
        if device is None:
            return False
        await cursor.execute(_CHILDREN, (device_id, level))
        children = [Child(*row) for row in await cursor.fetchall()]
        (above,) = await (await cursor.execute(_ABOVE, (device_id, level + 1))).fetchone() or (None,)
        group = next_group(children, np.empty(0, np.int64) if above is None else above, layout.targets[level + 1])
        if group:
            await _merge(connection, device_id, level, group, layout)
            await changed(connection, device_id)
        return bool(group)


def next_group(children: Sequence[Child], above: Ints, target: int) -> Sequence[Child]:
    """Return neighbours to be merged: at least two, of one month, and with no block of the level above between them.

    They make up half to all of the target. Fewer do once no more can follow: the month has ended, or a block of the
    level above follows. `above`: the first times of the blocks above, ascending.
    """
    if not children:
        return []
    first = np.array([child.first for child in children], np.int64)
    counts = np.array([child.count for child in children], np.int64)
    parts = np.stack((months_of(first), np.searchsorted(above, first)))
    edges = np.flatnonzero((np.diff(parts) != 0).any(axis=0)) + 1
    for begin, end in pairwise([0, *edges.tolist(), len(children)]):
        if end - begin > 1:
            totals = np.cumsum(counts[begin:end])
            if totals[-1] >= target:
                return children[begin : begin + _group_size(first[begin:end], totals, target)]
            if end < len(children):
                return children[begin:end]
    return []


def _group_size(first: Ints, totals: Ints, target: int) -> int:
    """Return the number of children of the first group. There are two or more, and they make up the target."""
    least = max(2, int(np.searchsorted(totals, target // 2)) + 1)
    most = min(int(np.searchsorted(totals, target, side="right")), len(first) - 1)
    if least > most:
        return min(least, len(first))
    return least + _roundest(first[least : most + 1].tolist())


def _roundest(starts: Sequence[Microseconds]) -> int:
    """Return the place of the start that follows the roundest time; of several, the last."""
    for step in ROUND_STEPS:
        places = [place for place, start in enumerate(starts) if start % step < step // ROUNDNESS]
        if places:
            return places[-1]
    return len(starts) - 1


_SUMS = """
    SELECT sum(sum_x), sum(sum_y), sum(sum_z), sum(squares_x), sum(squares_y), sum(squares_z) FROM blocks
    WHERE device_id = %s AND level = %s AND first BETWEEN %s AND %s
"""
_MARK_MERGED = "UPDATE blocks SET merged = true WHERE device_id = %s AND level = %s AND first BETWEEN %s AND %s"


async def _merge(connection: Connection, device_id: int, level: int, group: Sequence[Child], layout: Layout) -> None:
    key = Key(device_id, level + 1, group[0].first)
    span = device_id, level, Moment(group[0].first), Moment(group[-1].first)
    async with arrays.cursor(connection) as cursor:
        sums = await (await cursor.execute(_SUMS, span)).fetchone()
        assert sums is not None, "an aggregate has one row"
        totals, squares = sums[: len(AXES)], sums[len(AXES) :]
        summaries = [
            await _merge_axis(connection, key, level, group, number, added, layout)
            for number, added in enumerate(zip(totals, squares, strict=True))
        ]
        await cursor.execute(_MARK_MERGED, span)
    count = sum(child.count for child in group)
    await tables.insert_blocks(connection, [Block(key, group[-1].last, count, summaries, None)])


async def _merge_axis(
    connection: Connection,
    key: Key,
    level: int,
    group: Sequence[Child],
    number: int,
    added: tuple[Decimal, Decimal],
    layout: Layout,
) -> AxisSummary:
    """Insert the values of an axis of all children. `added`: their sums of values and of squares.

    The values of one axis are all that memory holds: it is released before the next one.
    """
    values = await _sorted_values(connection, Key(key.device_id, level, key.first), group, number, layout)
    total, squares = map(exact.add, added)
    axis = Axis(values, total, squares)
    await tables.insert_axis(connection, key, number, axis, layout)
    return AxisSummary.of(axis, layout)


async def _sorted_values(
    connection: Connection, key: Key, group: Sequence[Child], number: int, layout: Layout
) -> Floats:
    """Return the values of an axis of all children, sorted."""
    values = np.empty(sum(child.count for child in group))
    at = 0
    for child in group:
        own = Key(key.device_id, key.level, child.first)
        values[at : at + child.count] = await tables.read_sorted(connection, own, number, child.count, layout)
        at += child.count
    await asyncio.to_thread(values.sort)  # in place, while a stable sort takes half the memory again
    return values
