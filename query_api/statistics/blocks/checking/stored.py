"""Blocks as they are stored."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, LiteralString

import msgspec

from query_api.statistics.blocks import tables
from query_api.statistics.blocks.building import EXTREMES_COLUMN, Columns, Key
from query_api.statistics.blocks.coding import Coded
from query_api.statistics.blocks.layout import Floats, Layout
from shared.postgres import arrays
from shared.postgres.arrays import Moment
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds

Array = tuple[int, int, bytes | memoryview]
"""The coding of an array, the bytes of each frame, and the frames."""


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

    `columns`: by their number. `values`, `guides`: by the number of the axis.
    """

    device_id: int
    row: StoredRow
    columns: dict[int, Array]
    values: dict[int, Array]
    guides: dict[int, bytes | None]

    def readings(self, layout: Layout) -> Columns | None:
        """Return its readings; None if they are not those of its count."""
        key = Key(self.device_id, self.row.level, self.row.first)
        own = sorted((number, array) for number, array in self.columns.items() if number < EXTREMES_COLUMN)
        rows = [(coding, data) for _, (coding, _, data) in own]
        try:
            return tables.columns_of(key, rows, self.row.count, layout)
        except tables.WrongBlock:
            return None


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


_COLUMNS = """
    SELECT axis, coding, frame_bytes, columns FROM block_columns WHERE device_id = %s AND level = %s AND first = %s
"""
_VALUES = """
    SELECT axis, coding, frame_bytes, sorted, guides FROM block_values
    WHERE device_id = %s AND level = %s AND first = %s
"""


async def read_block(connection: Connection, device_id: int, row: StoredRow) -> StoredBlock:
    """Return a block of level MINI or BASE."""
    key = (device_id, row.level, Moment(row.first))
    async with arrays.cursor(connection) as cursor:
        columns: list[Any] = await (await cursor.execute(_COLUMNS, key)).fetchall()
        values: list[Any] = await (await cursor.execute(_VALUES, key)).fetchall()
    return StoredBlock(
        device_id,
        row,
        {axis: tuple(array) for axis, *array in columns},
        {axis: tuple(array) for axis, *array, _ in values},
        {axis: guides for axis, *_, guides in values},
    )


_LENGTH = """
    SELECT coding, frame_bytes, octet_length(sorted), guides FROM block_values
    WHERE device_id = %s AND level = %s AND first = %s AND axis = %s
"""
SLICE = 8 << 20
"""Bytes."""
_SLICE = """
    SELECT substr(sorted, %s, %s) FROM block_values WHERE device_id = %s AND level = %s AND first = %s AND axis = %s
"""


async def values_equal(
    connection: Connection,
    device_id: int,
    row: StoredRow,
    axis: int,
    expected: Coded,
    guides: bytes,
    size: int = SLICE,
) -> bool:
    """Return whether these are the stored values of an axis, and its guides. `size`: bytes that are read at once."""
    key = (device_id, row.level, Moment(row.first), axis)
    coding, frame_bytes, data = expected.fields
    async with arrays.cursor(connection) as cursor:
        found = await (await cursor.execute(_LENGTH, key)).fetchone()
        if found != (coding, frame_bytes, len(data), guides):
            return False
        for at in range(0, len(data), size):
            (stored,) = await (await cursor.execute(_SLICE, (at + 1, size, *key))).fetchone() or (b"",)
            if stored != data[at : at + size]:
                return False
    return True


async def read_values(
    connection: Connection, device_id: int, row: StoredRow, axis: int, layout: Layout
) -> Floats | None:
    """Return the sorted values of an axis; None if they are not as many as the block's count says."""
    try:
        return await tables.read_sorted(connection, Key(device_id, row.level, row.first), axis, row.count, layout)
    except tables.WrongBlock:
        return None
