"""The tables of blocks: COPY of new blocks, and deletion."""

import asyncio
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, LiteralString

import numpy as np
from numpy.typing import NDArray

from query_api.statistics.blocks.building import Axis, AxisSummary, Block, Columns, Key, code_extremes
from query_api.statistics.blocks.coding import (
    Coded,
    Coding,
    code_column,
    code_sorted,
    code_times,
    decode_column,
    decode_sorted,
    decode_times,
)
from query_api.statistics.blocks.layout import AXES, BASE, Floats, Layout
from shared.postgres import arrays
from shared.postgres.arrays import Moment
from shared.postgres.connections import Connection
from shared.readings import binary_copy

_BLOCKS: LiteralString = """
    COPY blocks (device_id, level, first, last, count, min_x, max_x, min_y, max_y, min_z, max_z,
                 sum_x, sum_y, sum_z, squares_x, squares_y, squares_z, marks, times) FROM STDIN (FORMAT BINARY)
"""
_BLOCK_TYPES = ["int8", "int2", "timestamptz", "timestamptz", "int4", *["float8"] * 6, *["numeric"] * 6, *["bytea"] * 2]
_VALUES: LiteralString = """
    COPY block_values (device_id, level, first, axis, coding, frame_bytes, sorted, guides) FROM STDIN (FORMAT BINARY)
"""
_VALUE_TYPES = ["int8", "int2", "timestamptz", "int2", "int2", "int2", "bytea", "bytea"]
_PART_BYTES = 1 << 20
_COLUMNS: LiteralString = """
    COPY block_columns (device_id, level, first, axis, coding, frame_bytes, columns) FROM STDIN (FORMAT BINARY)
"""
_COLUMN_TYPES = ["int8", "int2", "timestamptz", "int2", "int2", "int2", "bytea"]


class WrongBlock(Exception):
    """A stored block lacks values or readings. `key` identifies it."""

    def __init__(self, key: Key) -> None:
        super().__init__(f"the block of level {key.level} of device {key.device_id} lacks values")
        self.key = key


async def insert_read(
    connection: Connection, device_id: int, parts: Sequence[tuple[int, Columns]], layout: Layout
) -> None:
    """Insert blocks of readings, each of a level and its columns, in the caller's transaction."""
    keys = [Key(device_id, level, columns.first) for level, columns in parts]
    axes = await asyncio.to_thread(lambda: [[Axis.of(values) for values in columns.axes] for _, columns in parts])
    given = list(zip(keys, (columns for _, columns in parts), axes, strict=True))
    await insert_blocks(connection, [_block(*one, layout) for one in given])
    values = ((key, number, axis) for key, _, own in given for number, axis in enumerate(own))
    await _copy(connection, _VALUES, _VALUE_TYPES, (_value_row(*one, layout) for one in values))
    columns = (row for key, columns, _ in given for row in _column_rows(key, columns, layout))
    await _copy(connection, _COLUMNS, _COLUMN_TYPES, columns)


def _block(key: Key, columns: Columns, axes: Sequence[Axis], layout: Layout) -> Block:
    times = np.ascontiguousarray(columns.times[:: layout.time_stride]).tobytes()
    return Block(key, columns.last, len(columns), [AxisSummary.of(axis, layout) for axis in axes], times)


def _column_rows(key: Key, columns: Columns, layout: Layout) -> Iterable[tuple[Any, ...]]:
    return ((*_key(key), number, *coded.fields) for number, coded in enumerate(coded_columns(columns, layout)))


def coded_columns(columns: Columns, layout: Layout) -> list[Coded]:
    """Return the times, x, y and z, and the extremes of strides, as block_columns has them."""
    axes = (code_column(values, layout.time_stride) for values in columns.axes)
    return [code_times(columns.times, layout.time_stride), *axes, code_extremes(columns, layout)]


async def insert_blocks(connection: Connection, blocks: Sequence[Block]) -> None:
    """Insert the rows of blocks, in the caller's transaction."""
    await _copy(connection, _BLOCKS, _BLOCK_TYPES, map(_block_row, blocks))


def _block_row(block: Block) -> tuple[Any, ...]:
    ranges = [bound for axis in block.axes for bound in (axis.least, axis.greatest)]
    totals, squares = [axis.total for axis in block.axes], [axis.squares for axis in block.axes]
    marks = b"".join(axis.marks for axis in block.axes)
    return (*_key(block.key), Moment(block.last), block.count, *ranges, *totals, *squares, marks, block.times)


_VALUE_HEAD = struct.Struct(">hiqihiqihihihi")
"""Of a row of block_values: the number of fields, those before `sorted` after their lengths, and the length of it."""
_LENGTH = struct.Struct(">i")


async def insert_axis(connection: Connection, key: Key, number: int, axis: Axis, layout: Layout) -> None:
    """Insert the values of one axis of a block above BASE, in the caller's transaction.

    They are sent in parts, since a merge of 2^23 values would else hold them several times.
    """
    first, guides = key.first - binary_copy.POSTGRES_EPOCH, axis.guides(layout).tobytes()
    coding, frame_bytes, data = (await asyncio.to_thread(code_sorted, axis.values, layout.guide)).fields
    fields = (8, key.device_id, 2, key.level, 8, first, 2, number, 2, coding, 2, frame_bytes, len(data))
    async with arrays.cursor(connection) as cursor, cursor.copy(_VALUES) as copy:
        await copy.write(binary_copy.HEADER + _VALUE_HEAD.pack(len(_VALUE_TYPES), *fields))
        for at in range(0, len(data), _PART_BYTES):
            await copy.write(bytes(data[at : at + _PART_BYTES]))
        await copy.write(_LENGTH.pack(len(guides)) + guides + binary_copy.TRAILER)


def _value_row(key: Key, number: int, axis: Axis, layout: Layout) -> tuple[Any, ...]:
    guides = np.ascontiguousarray(axis.guides(layout)).data if key.level > BASE else None
    return (*_key(key), number, *code_sorted(axis.values, layout.guide).fields, guides)


def _key(key: Key) -> tuple[int, int, Moment]:
    return key.device_id, key.level, Moment(key.first)


async def _copy(
    connection: Connection, statement: LiteralString, types: Sequence[str], rows: Iterable[tuple[Any, ...]]
) -> None:
    async with arrays.cursor(connection) as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            await copy.write_row(row)


_DELETE: tuple[LiteralString, ...] = tuple(
    f"DELETE FROM {table} WHERE device_id = %s AND level = %s AND first = %s"  # noqa: S608  # constants
    for table in ("blocks", "block_values", "block_columns")
)


async def delete(connection: Connection, keys: Iterable[Key]) -> None:
    """Delete these blocks, in the caller's transaction. Those of the level below stay merged."""
    async with arrays.cursor(connection) as cursor:
        for key in keys:
            for statement in _DELETE:
                await cursor.execute(statement, _key(key))


_READ_COLUMNS = """
    SELECT coding, columns FROM block_columns
    WHERE device_id = %s AND level = %s AND first = %s AND axis <= 3 ORDER BY axis
"""


async def read_columns(connection: Connection, key: Key, count: int, layout: Layout) -> Columns:
    """Return the readings of a block of level MINI or BASE. Raises WrongBlock."""
    async with arrays.cursor(connection) as cursor:
        rows = await (await cursor.execute(_READ_COLUMNS, _key(key))).fetchall()
    return columns_of(key, rows, count, layout)


def columns_of(key: Key, rows: Sequence[Sequence[Any]], count: int, layout: Layout) -> Columns:
    """Return the readings. `rows`: coding and frames of times, x, y and z. Raises WrongBlock."""
    decoders = (decode_times, *[decode_column] * len(AXES))
    if len(rows) != len(decoders):
        raise WrongBlock(key)
    size = layout.time_stride
    return Columns(*(_entries(key, row, decode, size, count) for row, decode in zip(rows, decoders, strict=True)))


_READ_SORTED = """
    SELECT coding, sorted FROM block_values WHERE device_id = %s AND level = %s AND first = %s AND axis = %s
"""


async def read_sorted(connection: Connection, key: Key, axis: int, count: int, layout: Layout) -> Floats:
    """Return the values of an axis of a block, in ascending order. Raises WrongBlock."""
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_READ_SORTED, (*_key(key), axis))).fetchone()
    if row is None:
        raise WrongBlock(key)
    return _entries(key, row, decode_sorted, layout.guide, count)


def _entries(
    key: Key, stored: Sequence[Any], decode: Callable[[Coding, bytes, int], NDArray[Any]], size: int, count: int
) -> NDArray[Any]:
    number, data = stored
    try:
        coding = Coding.of(number)
    except ValueError as error:
        raise WrongBlock(key) from error
    if len(data) != -(-count // size) * coding.frame_bytes(size):
        raise WrongBlock(key)
    return decode(coding, data, size)[:count]
