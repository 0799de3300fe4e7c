"""Devices with sealed readings, and what their blocks must hold."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

import msgspec
import numpy as np

from query_api.statistics.blocks.building import Axis, Columns
from query_api.statistics.blocks.layout import BASE, TOP, Floats, Layout
from query_api.statistics.blocks.sealing.announcing import announce, wait_for_writers
from query_api.statistics.blocks.sealing.sealing import seal_step
from shared.postgres import arrays
from shared.postgres.arrays import EARLIEST, Moment
from shared.postgres.connections import Connection
from shared.readings.deletions import Fence
from shared.readings.model import Microseconds, Reading
from shared.readings.partitions import Partitions
from shared.readings.store import prepare, store

SMALL = Layout(targets=(4, 16, 64, 256), marks=4, least_stride=2, guide=4, time_stride=4)
"""A thousand readings have blocks of all levels."""

_REGISTER = "INSERT INTO devices (id, key, name) VALUES (%s, %s, 'n') ON CONFLICT DO NOTHING"
_ENROL = "INSERT INTO sealed_devices (device_id) VALUES (%s) ON CONFLICT DO NOTHING"


async def stored(connection: Connection, device_id: int, columns: Columns) -> None:
    """Store the readings as an ingestor does, those with times that were announced as late ones."""
    await connection.execute(_REGISTER, (device_id, f"key-{device_id}"))
    await connection.execute(_ENROL, (device_id,))
    await prepare(connection)
    rows = zip(columns.times.tolist(), *(axis.tolist() for axis in columns.axes), strict=True)
    readings = [Reading(device_id, at, 0, x, y, z) for at, x, y, z in rows]
    await Partitions().ensure(connection, readings)
    fence = Fence()
    async with connection.transaction():
        await fence.enter(connection)
        await store(connection, readings, fence.announcements)


async def sealed(
    connection: Connection, device_id: int, until: Microseconds, layout: Layout = SMALL, step: int = 1000
) -> int:
    """Announce, wait and seal, as a worker does."""
    await announce(connection, {device_id: until})
    await wait_for_writers(connection)
    total, is_done = 0, False
    while not is_done:
        found = await seal_step(connection, device_id, until, layout, step)
        total, is_done = total + found.readings, found.is_done
    return total


class StoredBlock(msgspec.Struct, frozen=True):
    """A row of blocks, with the rows of the other tables that belong to it."""

    level: int
    first: Microseconds
    last: Microseconds
    count: int
    merged: bool
    ranges: Floats
    totals: Sequence[Decimal]
    squares: Sequence[Decimal]
    marks: bytes
    times: bytes | None
    columns: bytes | None
    values: Sequence[bytes]
    guides: Sequence[bytes | None]

    def covers(self, other: "StoredBlock") -> bool:
        return self.level == other.level + 1 and self.first <= other.first and other.last <= self.last

    def is_within(self, other: "StoredBlock") -> bool:
        """Whether the other block consists of this block of readings. Mini blocks stay between merged ones."""
        level = min(other.level, BASE)
        return self.level == level and other.first <= self.first <= other.last

    def read(self) -> Columns:
        assert self.columns is not None
        assert len(self.columns) == 32 * self.count
        axes = np.frombuffer(self.columns, "<f8", offset=8 * self.count).reshape(3, self.count)
        return Columns(np.frombuffer(self.columns, "<i8", count=self.count), *axes)


_STATE = "SELECT sealed FROM sealed_devices WHERE device_id = %s"
_ROWS = b"""
    SELECT array_agg(recorded_at), array_agg(x), array_agg(y), array_agg(z) FROM readings
    WHERE device_id = %s AND recorded_at < %s
"""
_LATE = _ROWS.replace(b"readings", b"late_readings")
_BLOCKS = """
    SELECT level, first, last, count, merged, ARRAY[min_x, max_x, min_y, max_y, min_z, max_z],
           ARRAY[sum_x, sum_y, sum_z], ARRAY[squares_x, squares_y, squares_z], marks, times, columns, stored.*
    FROM blocks LEFT JOIN block_columns USING (device_id, level, first)
    CROSS JOIN LATERAL (
        SELECT array_agg(sorted ORDER BY axis), array_agg(guides ORDER BY axis) FROM block_values
        WHERE device_id = blocks.device_id AND level = blocks.level AND first = blocks.first
    ) AS stored
    WHERE device_id = %s ORDER BY level, first
"""


async def blocks_of(connection: Connection, device_id: int) -> list[StoredBlock]:
    async with arrays.cursor(connection) as cursor:
        await cursor.execute(_BLOCKS, (device_id,))
        return [StoredBlock(*row) for row in await cursor.fetchall()]


async def assert_sealed(connection: Connection, device_id: int, layout: Layout = SMALL) -> list[int]:
    """Hold that each reading before `sealed` is in one block, or late, and that each block is right.

    Return the number of blocks of each level.
    """
    row = await (await arrays.cursor(connection).execute(_STATE, (device_id,))).fetchone()
    until = EARLIEST if row is None else row[0]
    rows, late = [await _rows(connection, query, device_id, until) for query in (_ROWS, _LATE)]
    blocks = await blocks_of(connection, device_id)
    parts = sorted((block.read() for block in blocks if block.level <= BASE), key=lambda part: part.first)
    assert_same(Columns.joined([*parts, late]), rows)
    for one, following in pairwise(parts):
        assert one.last < following.first, "blocks of readings do not overlap"
    for block in blocks:
        covers = [other for other in blocks if other.covers(block)]
        assert len(covers) == block.merged
        assert_right(block, Columns.joined([one.read() for one in blocks if one.is_within(block)]), layout)
    return [sum(block.level == level for block in blocks) for level in range(TOP + 1)]


async def _rows(connection: Connection, query: bytes, device_id: int, until: Microseconds) -> Columns:
    row = await (await arrays.cursor(connection).execute(query, (device_id, Moment(until)))).fetchone()
    assert row is not None
    if row[0] is None:
        return Columns(np.empty(0, np.int64), *np.empty((3, 0)))
    return Columns.ordered(*row)


def assert_same(found: Columns, expected: Columns) -> None:
    assert len(found) == len(expected)
    for one, other in zip((found.times, *found.axes), (expected.times, *expected.axes), strict=True):
        assert np.array_equal(one, other)


def assert_right(block: StoredBlock, readings: Columns, layout: Layout) -> None:
    """Hold that the block is that of its readings."""
    assert (block.first, block.last, block.count) == (readings.first, readings.last, len(readings))
    axes = [Axis.of(values) for values in readings.axes]
    is_read = block.level <= BASE
    assert list(block.values) == [axis.values.tobytes() for axis in axes]
    assert list(block.guides) == [None if is_read else axis.guides(layout).tobytes() for axis in axes]
    assert block.marks == b"".join(axis.marks(layout).tobytes() for axis in axes)
    assert block.ranges.tolist() == [bound for axis in axes for bound in (axis.values[0], axis.values[-1])]
    assert list(block.totals) == [axis.total for axis in axes]
    assert list(block.squares) == [axis.squares for axis in axes]
    assert block.times == (readings.times[:: layout.time_stride].tobytes() if is_read else None)
