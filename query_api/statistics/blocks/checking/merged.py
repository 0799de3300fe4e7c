"""A block of level 2 or 3, checked against the blocks below that it covers."""

import asyncio
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise

import numpy as np

from query_api.statistics.blocks import exact
from query_api.statistics.blocks.building import Axis, AxisSummary
from query_api.statistics.blocks.checking.comparing import wrong_in_row
from query_api.statistics.blocks.checking.problems import Problem, name_of
from query_api.statistics.blocks.checking.stored import (
    StoredRow,
    read_row,
    read_rows_below,
    read_values,
    values_equal,
)
from query_api.statistics.blocks.coding import code_sorted
from query_api.statistics.blocks.layout import AXES, Floats, Layout
from query_api.statistics.blocks.sealing.sealed_device import changed
from query_api.statistics.blocks.sealing.settling import uncover
from shared.postgres import arrays
from shared.postgres.arrays import Moment
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds


async def check_merged(
    connection: Connection, device_id: int, level: int, first: Microseconds, layout: Layout
) -> list[Problem]:
    """Check one block of level 2 or 3, in the caller's snapshot. One axis at a time is in memory."""
    row = await read_row(connection, device_id, level, first)
    if row is None:
        return []
    below = await read_rows_below(connection, device_id, row)
    if fault := await _faulty(connection, device_id, row, below):
        return [Problem(device_id, first, f"{name_of(level)} {fault}")]
    wrong = await _wrong(connection, device_id, row, below, layout)
    return [Problem(device_id, first, f"{name_of(level)} is wrong in {', '.join(wrong)}")] if wrong else []


_OVERLAPS = "SELECT EXISTS (SELECT 1 FROM blocks WHERE device_id = %s AND level = %s AND first > %s AND first <= %s)"


async def _faulty(connection: Connection, device_id: int, row: StoredRow, below: Sequence[StoredRow]) -> str | None:
    async with arrays.cursor(connection) as cursor:
        parameters = (device_id, row.level, Moment(row.first), Moment(row.last))
        (overlaps,) = await (await cursor.execute(_OVERLAPS, parameters)).fetchone() or (False,)
    if overlaps:
        return "overlaps the next one of its level"
    if not below or below[0].first != row.first:
        return "has no blocks below it from its first reading on"
    if any(one.last >= following.first for one, following in pairwise(below)):
        return "covers blocks that overlap"
    return None


async def _wrong(
    connection: Connection, device_id: int, row: StoredRow, below: Sequence[StoredRow], layout: Layout
) -> list[str]:
    found, summaries = [], []
    for number, name in enumerate(AXES):
        values = await _joined(connection, device_id, below, number, layout)
        if values is None:
            return [f"the blocks below it, of which one lacks values of {name}"]
        axis = Axis(values, _sum(one.totals[number] for one in below), _sum(one.squares[number] for one in below))
        summaries.append(AxisSummary.of(axis, layout))
        guides = np.ascontiguousarray(axis.guides(layout)).tobytes()
        coded = await asyncio.to_thread(code_sorted, values, layout.guide)
        if not await values_equal(connection, device_id, row, number, coded, guides):
            found.append(f"values of {name}")
        del values, axis, coded
    count = sum(one.count for one in below)
    return [*wrong_in_row(row, below[0].first, below[-1].last, count, summaries), *found]


def _sum(totals: Iterable[Decimal]) -> Decimal:
    return exact.add(*totals)


async def _joined(
    connection: Connection, device_id: int, below: Sequence[StoredRow], number: int, layout: Layout
) -> Floats | None:
    """Return the values of an axis of all blocks below, sorted; None if one of them lacks its values."""
    values = np.empty(sum(one.count for one in below))
    at = 0
    for one in below:
        part = await read_values(connection, device_id, one, number, layout)
        if part is None:
            return None
        values[at : at + one.count] = part
        at += one.count
    await asyncio.to_thread(values.sort, kind="stable")  # Timsort finds the sorted parts and merges them
    return values


async def unmerge(connection: Connection, device_id: int, level: int, first: Microseconds) -> None:
    """Delete the block and those that cover it, in the caller's transaction. The blocks below can be merged again."""
    row = await read_row(connection, device_id, level, first)
    if row is not None:
        await uncover(connection, device_id, level - 1, row.first, row.last)
        await changed(connection, device_id)
