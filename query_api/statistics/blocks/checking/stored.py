"""Blocks as they are stored."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, LiteralString

import msgspec
import numpy as np

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.layout import AXES, Floats
from shared.postgres import arrays
from shared.postgres.arrays import Moment
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds

READING_BYTES = 32
"""Of a reading in block_columns."""


class StoredRow(msgspec.Struct, frozen=True):
    """A row of blocks. `covered`: whether a block of the level above has its readings."""

    level: int
    first: Microseconds
    last: Microseconds
    count: int
    merged: bool
    covered: bool
    ranges: Floats
    totals: Sequence[Decimal]
    squares: Sequence[Decimal]
    marks: bytes
    times: bytes | None


class StoredBlock(msgspec.Struct, frozen=True):
    """A block of readings: its row, and the rows of the other tables that belong to it.

    `values`, `guides`: by the number of the axis.
    """

    row: StoredRow
    columns: bytes | None
    values: dict[int, bytes]
    guides: dict[int, bytes | None]

    def readings(self) -> Columns | None:
        """Return its readings; None if they are not those of its count."""
        count = self.row.count
        if self.columns is None or len(self.columns) != READING_BYTES * count:
            return None
        axes = np.frombuffer(self.columns, "<f8", offset=8 * count).reshape(len(AXES), count)
        return Columns(np.frombuffer(self.columns, "<i8", count=count), *axes)


# Of the blocks above, the last one that begins no later.
_ROWS: LiteralString = """
    SELECT level, first, last, count, merged, coalesce(last <= (
               SELECT above.last FROM blocks AS above
               WHERE above.device_id = block.device_id AND above.level = block.level + 1 AND above.first <= block.first
               ORDER BY above.first DESC LIMIT 1), false),
           ARRAY[min_x, max_x, min_y, max_y, min_z, max_z],
           ARRAY[sum_x, sum_y, sum_z], ARRAY[squares_x, squares_y, squares_z], marks, times
    FROM blocks AS block
"""
_ONE: LiteralString = _ROWS + "WHERE device_id = %s AND level = %s AND first = %s"
_BELOW: LiteralString = _ROWS + "WHERE device_id = %s AND level = %s AND first BETWEEN %s AND %s ORDER BY first"


async def read_row(connection: Connection, device_id: int, level: int, first: Microseconds) -> StoredRow | None:
    """Return the row of a block; None if there is no such block."""
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_ONE, (device_id, level, Moment(first)))).fetchone()
    return None if row is None else StoredRow(*row)


async def read_rows_below(connection: Connection, device_id: int, row: StoredRow) -> list[StoredRow]:
    """Return the rows of the blocks that this one covers, in the order of time."""
    parameters = (device_id, row.level - 1, Moment(row.first), Moment(row.last))
    async with arrays.cursor(connection) as cursor:
        return [StoredRow(*one) for one in await (await cursor.execute(_BELOW, parameters)).fetchall()]


_COLUMNS = "SELECT columns FROM block_columns WHERE device_id = %s AND level = %s AND first = %s"
_VALUES = "SELECT axis, sorted, guides FROM block_values WHERE device_id = %s AND level = %s AND first = %s"


async def read_block(connection: Connection, device_id: int, row: StoredRow) -> StoredBlock:
    """Return a block of level MINI or BASE."""
    key = (device_id, row.level, Moment(row.first))
    async with arrays.cursor(connection) as cursor:
        columns = await (await cursor.execute(_COLUMNS, key)).fetchone()
        values: list[Any] = await (await cursor.execute(_VALUES, key)).fetchall()
    return StoredBlock(
        row,
        None if columns is None else columns[0],
        {axis: stored for axis, stored, _ in values},
        {axis: guides for axis, _, guides in values},
    )


_LENGTH = """
    SELECT octet_length(sorted), guides FROM block_values
    WHERE device_id = %s AND level = %s AND first = %s AND axis = %s
"""
SLICE = 1 << 20
"""Values: 8 MB."""
_SLICE = """
    SELECT substr(sorted, %s, %s) FROM block_values WHERE device_id = %s AND level = %s AND first = %s AND axis = %s
"""


async def values_equal(
    connection: Connection,
    device_id: int,
    row: StoredRow,
    axis: int,
    expected: Floats,
    guides: bytes,
    size: int = SLICE,
) -> bool:
    """Return whether these are the stored values of an axis, and its guides. `size`: values that are read at once."""
    key = (device_id, row.level, Moment(row.first), axis)
    async with arrays.cursor(connection) as cursor:
        found = await (await cursor.execute(_LENGTH, key)).fetchone()
        if found != (expected.nbytes, guides):
            return False
        for at in range(0, len(expected), size):
            part = expected[at : at + size]
            (stored,) = await (await cursor.execute(_SLICE, (8 * at + 1, part.nbytes, *key))).fetchone() or (b"",)
            if stored != part.tobytes():
                return False
    return True


_SORTED = "SELECT sorted FROM block_values WHERE device_id = %s AND level = %s AND first = %s AND axis = %s"


async def read_values(connection: Connection, device_id: int, row: StoredRow, axis: int) -> Floats | None:
    """Return the sorted values of an axis; None if they are not as many as the block's count says."""
    async with arrays.cursor(connection) as cursor:
        found = await (await cursor.execute(_SORTED, (device_id, row.level, Moment(row.first), axis))).fetchone()
    return None if found is None or len(found[0]) != 8 * row.count else np.frombuffer(found[0], "<f8")
