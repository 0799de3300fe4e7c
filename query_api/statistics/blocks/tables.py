"""The tables of blocks: COPY of new blocks, and deletion."""

import asyncio
import struct
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

import numpy as np

from query_api.statistics.blocks.building import Axis, AxisSummary, Block, Columns, Key
from query_api.statistics.blocks.layout import BASE, Layout
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
    COPY block_values (device_id, level, first, axis, sorted, guides) FROM STDIN (FORMAT BINARY)
"""
_VALUE_TYPES = ["int8", "int2", "timestamptz", "int2", "bytea", "bytea"]
_PART_BYTES = 1 << 20
_COLUMNS: LiteralString = "COPY block_columns (device_id, level, first, columns) FROM STDIN (FORMAT BINARY)"
_COLUMN_TYPES = ["int8", "int2", "timestamptz", "bytea"]


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
    await _copy(connection, _COLUMNS, _COLUMN_TYPES, ((*_key(key), _bytes(columns)) for key, columns, _ in given))


def _block(key: Key, columns: Columns, axes: Sequence[Axis], layout: Layout) -> Block:
    times = np.ascontiguousarray(columns.times[:: layout.time_stride]).tobytes()
    return Block(key, columns.last, len(columns), [AxisSummary.of(axis, layout) for axis in axes], times)


def _bytes(columns: Columns) -> bytes:
    return b"".join((columns.times.tobytes(), *(axis.tobytes() for axis in columns.axes)))


async def insert_blocks(connection: Connection, blocks: Sequence[Block]) -> None:
    """Insert the rows of blocks, in the caller's transaction."""
    await _copy(connection, _BLOCKS, _BLOCK_TYPES, map(_block_row, blocks))


def _block_row(block: Block) -> tuple[Any, ...]:
    ranges = [bound for axis in block.axes for bound in (axis.least, axis.greatest)]
    totals, squares = [axis.total for axis in block.axes], [axis.squares for axis in block.axes]
    marks = b"".join(axis.marks for axis in block.axes)
    return (*_key(block.key), Moment(block.last), block.count, *ranges, *totals, *squares, marks, block.times)


_VALUE_HEAD = struct.Struct(">hiqihiqihi")
"""Of a row of block_values: the number of fields, key and axis after their lengths, and the length of `sorted`."""
_LENGTH = struct.Struct(">i")


async def insert_axis(connection: Connection, key: Key, number: int, axis: Axis, layout: Layout) -> None:
    """Insert the values of one axis of a block above BASE, in the caller's transaction.

    They are sent in parts, since a merge of 2^23 values would else hold them several times.
    """
    first = key.first - binary_copy.POSTGRES_EPOCH
    values, guides = axis.values.view(np.uint8), axis.guides(layout).tobytes()
    head = _VALUE_HEAD.pack(len(_VALUE_TYPES), 8, key.device_id, 2, key.level, 8, first, 2, number, len(values))
    async with arrays.cursor(connection) as cursor, cursor.copy(_VALUES) as copy:
        await copy.write(binary_copy.HEADER + head)
        for at in range(0, len(values), _PART_BYTES):
            await copy.write(values[at : at + _PART_BYTES].tobytes())
        await copy.write(_LENGTH.pack(len(guides)) + guides + binary_copy.TRAILER)


def _value_row(key: Key, number: int, axis: Axis, layout: Layout) -> tuple[Any, ...]:
    guides = np.ascontiguousarray(axis.guides(layout)).data if key.level > BASE else None
    return (*_key(key), number, axis.values.data, guides)


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


_READ_COLUMNS = "SELECT columns FROM block_columns WHERE device_id = %s AND level = %s AND first = %s"


async def read_columns(connection: Connection, key: Key, count: int) -> Columns:
    """Return the readings of a block of level MINI or BASE. Raises WrongBlock."""
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_READ_COLUMNS, _key(key))).fetchone()
    if row is None or len(row[0]) != 32 * count:
        raise WrongBlock(key)
    axes = np.frombuffer(row[0], "<f8", offset=8 * count).reshape(3, count)
    return Columns(np.frombuffer(row[0], "<i8", count=count), *axes)
