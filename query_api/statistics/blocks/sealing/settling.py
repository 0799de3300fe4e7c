"""Settling: late readings move into blocks. The blocks of their times are built again, of rows.

A block that covers such a block no longer has all readings, so it is deleted, and its other children are merged again.
No block covers a mini block, even if it lies in the time of one: blocks are merged of BASE blocks.
"""

from collections.abc import Iterable, Sequence
from itertools import islice, pairwise

import msgspec
import numpy as np

from query_api.statistics.blocks import tables
from query_api.statistics.blocks.building import Columns, Key
from query_api.statistics.blocks.cutting import cuts, months_of
from query_api.statistics.blocks.layout import BASE, MINI, STANDARD, TOP, Ints, Layout
from query_api.statistics.blocks.sealing.sealed_device import SealedDevice, changed, locked, read_rows
from shared.postgres import arrays
from shared.postgres.arrays import Moment
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds

STEP_READINGS = 4_000
"""Late readings that one transaction settles, besides those of the last block and moment."""
STEP_SPANS = 32
"""Blocks that one transaction builds again: 80 ms each."""


class Span(msgspec.Struct, frozen=True):
    """Readings from `first` to `last` that one or more new blocks will hold. `old`: the block that they replace."""

    first: Microseconds
    last: Microseconds
    old: Key | None


async def settle(
    connection: Connection,
    device_id: int,
    layout: Layout = STANDARD,
    limit: int = STEP_READINGS,
    spans: int = STEP_SPANS,
) -> int | None:
    """Settle the oldest late readings of the device, in one transaction; return how many were settled.

    `limit`, `spans`: the most late readings, and blocks that are built again. None if it may not settle now: the device
    was deleted or is locked.
    """
    async with locked(connection, device_id) as device:
        if device is None:
            return None
        late = await _late(connection, device, limit)
        if len(late) == 0:
            return 0
        blocks = await _blocks_around(connection, device_id, int(late[0]), int(late[-1]))
        chosen = list(islice(spans_of(late, blocks), spans))
        for span in chosen:
            await _rebuild(connection, device, span, layout)
        await changed(connection, device_id)
        return sum([await _forget(connection, device, span) for span in chosen])


_LATE = """
    SELECT array_agg(recorded_at ORDER BY recorded_at) FROM (
        SELECT recorded_at FROM late_readings WHERE device_id = %s AND recorded_at < %s ORDER BY recorded_at LIMIT %s
    ) AS oldest
"""


async def _late(connection: Connection, device: SealedDevice, limit: int) -> Ints:
    """Return the times of the oldest late readings, ascending."""
    async with arrays.cursor(connection) as cursor:
        await cursor.execute(_LATE, (device.device_id, Moment(device.sealed), limit))
        row = await cursor.fetchone()
    return np.empty(0, np.int64) if row is None or row[0] is None else row[0]


class Found(msgspec.Struct, frozen=True):
    """A block of level MINI or BASE."""

    key: Key
    last: Microseconds


# Of the months of the late readings.
_BLOCKS = """
    SELECT level, first, last FROM blocks
    WHERE device_id = %(device_id)s AND level <= 1 AND first >= date_trunc('month', %(first)s::timestamptz, 'UTC')
      AND first < date_trunc('month', %(last)s::timestamptz, 'UTC') + interval '32 days'
    ORDER BY first
"""


async def _blocks_around(
    connection: Connection, device_id: int, first: Microseconds, last: Microseconds
) -> list[Found]:
    async with arrays.cursor(connection) as cursor:
        await cursor.execute(_BLOCKS, {"device_id": device_id, "first": Moment(first), "last": Moment(last)})
        return [Found(Key(device_id, level, at), end) for level, at, end in await cursor.fetchall()]


def spans_of(late: Ints, blocks: Sequence[Found]) -> Iterable[Span]:
    """Yield what must be built again: each block that late readings belong to, and each month that has no block.

    A late reading belongs to the last block of its month that begins before it, or else to the first one of its month.
    `late`: their times, ascending. `blocks`: in the order of time.
    """
    starts = np.array([block.key.first for block in blocks], np.int64)
    months, months_of_blocks = months_of(late), months_of(starts)
    place = np.maximum(np.searchsorted(starts, late, side="right") - 1, np.searchsorted(months_of_blocks, months))
    has_block = np.isin(months, months_of_blocks)
    place = np.where(has_block, place, -1 - months)  # of a month without blocks, a number of its own
    edges = np.flatnonzero(np.diff(place)) + 1
    for begin, end in pairwise([0, *edges.tolist(), len(late)]):
        first, last = int(late[begin]), int(late[end - 1])
        if has_block[begin]:
            block = blocks[int(place[begin])]
            yield Span(min(first, block.key.first), max(last, block.last), block.key)
        else:
            yield Span(first, last, None)


async def _rebuild(connection: Connection, device: SealedDevice, span: Span, layout: Layout) -> None:
    is_base = span.old is not None and span.old.level == BASE
    columns = await read_rows(connection, device.device_id, span.first, min(span.last + 1, device.sealed))
    parts = [] if columns is None else rebuilt(columns, layout, is_base=is_base)
    if is_base or any(level == BASE for level, _ in parts):  # a block above covers all BASE blocks of its time
        await uncover(connection, device.device_id, BASE, span.first, span.last)
    if span.old is not None:
        await tables.delete(connection, [span.old])
    if parts:
        await tables.insert_read(connection, device.device_id, parts, layout)


def rebuilt(columns: Columns, layout: Layout, *, is_base: bool) -> list[tuple[int, Columns]]:
    """Return the blocks of the readings of one span, each with its level. `is_base`: they replace a base block."""
    if not is_base and len(columns) < layout.targets[BASE]:
        return [(MINI, columns)]
    ends = cuts(columns.times, layout.targets[BASE], is_open=False)
    return [(BASE, columns[begin:end]) for begin, end in pairwise([0, *ends])]


_COVERS = "SELECT min(first), max(last) FROM blocks WHERE device_id = %s AND level = %s AND first <= %s AND last >= %s"
_THESE = "SELECT first FROM blocks WHERE device_id = %s AND level = %s AND first BETWEEN %s AND %s"
_STANDS_ALONE = """
    UPDATE blocks SET merged = false WHERE device_id = %s AND level = %s AND first BETWEEN %s AND %s
"""


async def uncover(connection: Connection, device_id: int, level: int, first: Microseconds, last: Microseconds) -> None:
    """Delete the blocks above `level` that have readings from `first` to `last`, in the caller's transaction.

    The blocks below those can be merged again.
    """
    async with arrays.cursor(connection) as cursor:
        for above in range(TOP, level, -1):
            row = await (await cursor.execute(_COVERS, (device_id, above, Moment(last), Moment(first)))).fetchone()
            if row is not None and row[0] is not None:
                begin, end = Moment(row[0]), Moment(row[1])
                await cursor.execute(_THESE, (device_id, above, begin, end))
                await tables.delete(connection, [Key(device_id, above, at) for (at,) in await cursor.fetchall()])
                await cursor.execute(_STANDS_ALONE, (device_id, above - 1, begin, end))


_FORGET = (
    "DELETE FROM late_readings WHERE device_id = %s AND recorded_at >= %s AND recorded_at <= %s AND recorded_at < %s"
)


async def _forget(connection: Connection, device: SealedDevice, span: Span) -> int:
    """Delete the late readings that the snapshot contains: the new blocks have them."""
    async with arrays.cursor(connection) as cursor:
        parameters = (device.device_id, Moment(span.first), Moment(span.last), Moment(device.sealed))
        return (await cursor.execute(_FORGET, parameters)).rowcount
