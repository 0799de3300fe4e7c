"""A part of the sealed time of a device, checked against rows, and built anew of them.

The time before `sealed` is divided: a part begins with a block of readings and ends before the next one; where no block
is, it is a gap. So each reading older than `sealed` belongs to one part.
"""

from collections.abc import Sequence
from typing import LiteralString

import msgspec
import numpy as np

from query_api.statistics.blocks import tables
from query_api.statistics.blocks.building import Columns, Key
from query_api.statistics.blocks.checking.comparing import same, unequal, wrong_in_block
from query_api.statistics.blocks.checking.problems import Problem, name_of
from query_api.statistics.blocks.checking.stored import StoredBlock, read_block, read_row
from query_api.statistics.blocks.computing import computed
from query_api.statistics.blocks.layout import BASE, MINI, Layout
from query_api.statistics.blocks.packed import PACKED_WITH_TIMES, unpacked_with_times
from query_api.statistics.blocks.sealing.sealed_device import SealedDevice, changed, read_rows
from query_api.statistics.blocks.sealing.sealing import STEP_READINGS, end_of_step
from query_api.statistics.blocks.sealing.settling import rebuilt, uncover
from shared.postgres import arrays
from shared.postgres.arrays import Moment
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds


class Part(msgspec.Struct, frozen=True):
    """The time from `start` on, before `end`, with its blocks: one, or none of a gap."""

    device_id: int
    start: Microseconds
    end: Microseconds
    blocks: Sequence[StoredBlock]
    problems: Sequence[Problem]


async def check_part(
    connection: Connection, device: SealedDevice, at: Microseconds, layout: Layout, limit: int = STEP_READINGS
) -> Part:
    """Check the part that contains `at`, in the caller's snapshot. `at` is before `sealed`.

    `limit`: readings behind the block, after which the part ends.
    """
    start, end, blocks = await _part(connection, device, at, limit)
    rows = await read_rows(connection, device.device_id, start, end) or _NONE
    late = await _late(connection, device.device_id, start, end)
    problems = await computed(_PASSES * len(rows), lambda: _problems(device.device_id, blocks, rows, late, layout))
    return Part(device.device_id, start, end, blocks, problems)


_PASSES = 6
"""Values that are sorted or added up for each reading."""
_NONE = Columns(np.empty(0, np.int64), *np.empty((3, 0)))
# The blocks that begin last, up to the time, and the time at which the next one begins.
_AROUND = """
    SELECT level, first, last FROM (
        (SELECT level, first, last FROM blocks WHERE device_id = %(device_id)s AND level = 0 AND first <= %(at)s
         ORDER BY first DESC LIMIT 1)
        UNION ALL
        (SELECT level, first, last FROM blocks WHERE device_id = %(device_id)s AND level = 1 AND first <= %(at)s
         ORDER BY first DESC LIMIT 1)
    ) AS before ORDER BY first DESC, level
"""
_NEXT = """
    SELECT least((SELECT min(first) FROM blocks WHERE device_id = %(device_id)s AND level = 0 AND first > %(at)s),
                 (SELECT min(first) FROM blocks WHERE device_id = %(device_id)s AND level = 1 AND first > %(at)s))
"""


async def _part(
    connection: Connection, device: SealedDevice, at: Microseconds, limit: int
) -> tuple[Microseconds, Microseconds, list[StoredBlock]]:
    parameters = {"device_id": device.device_id, "at": Moment(at)}
    async with arrays.cursor(connection) as cursor:
        before = await (await cursor.execute(_AROUND, parameters)).fetchall()
        (following,) = await (await cursor.execute(_NEXT, parameters)).fetchone() or (None,)
    next_start = device.sealed if following is None else min(following, device.sealed)
    if not before or max(last for _, first, last in before if first == before[0][1]) < at:
        return at, (await end_of_step(connection, device.device_id, at, next_start, limit))[0], []
    start = before[0][1]
    keys = [(level, last) for level, first, last in before if first == start]
    behind = max(at, *(last for _, last in keys)) + 1
    end, _ = await end_of_step(connection, device.device_id, behind, next_start, limit)
    return start, end, [await _block(connection, device.device_id, level, start) for level, _ in keys]


async def _block(connection: Connection, device_id: int, level: int, first: Microseconds) -> StoredBlock:
    row = await read_row(connection, device_id, level, first)
    assert row is not None, "the snapshot contains it"
    return await read_block(connection, device_id, row)


_LATE: LiteralString = f"""
    SELECT {PACKED_WITH_TIMES} FROM late_readings WHERE device_id = %s AND recorded_at >= %s AND recorded_at < %s
"""  # noqa: S608  # constants


async def _late(connection: Connection, device_id: int, start: Microseconds, end: Microseconds) -> Columns:
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_LATE, (device_id, Moment(start), Moment(end)))).fetchone()
    assert row is not None, "an aggregate has one row"
    return unpacked_with_times(row[0])


def _problems(
    device_id: int, blocks: Sequence[StoredBlock], rows: Columns, late: Columns, layout: Layout
) -> list[Problem]:
    own = [(block, block.readings(layout)) for block in blocks]
    held = Columns.joined([*(readings for _, readings in own if readings is not None), late])
    found = [] if same(rows, held) else [Problem(device_id, at, text) for at, text in unequal(rows, held)]
    for block, readings in own:
        if wrong := _wrong(block, readings, layout):
            found.append(Problem(device_id, block.row.first, f"{name_of(block.row.level)} is wrong in {wrong}"))
    return found


def _wrong(block: StoredBlock, readings: Columns | None, layout: Layout) -> str:
    if readings is None:
        return "columns"
    return ", ".join(wrong_in_block(block, Columns.ordered(readings.times, *readings.axes), layout))


async def mend_part(connection: Connection, device: SealedDevice, part: Part, layout: Layout) -> None:
    """Build the blocks of the part anew, of rows, in the caller's transaction. `device` is locked."""
    device_id = part.device_id
    ends = [bound for block in part.blocks for bound in (block.row.first, block.row.last)]
    await uncover(connection, device_id, BASE, min([part.start, *ends]), max([part.end - 1, *ends]))
    await tables.delete(connection, [Key(device_id, block.row.level, block.row.first) for block in part.blocks])
    await _forget(connection, part)
    rows = await read_rows(connection, device_id, part.start, part.end)
    if rows is not None:
        is_base = any(block.row.level == BASE for block in part.blocks)
        await tables.insert_read(connection, device_id, rebuilt(rows, layout, is_base=is_base), layout)
    await changed(connection, device_id)


_FORGET_LATE = "DELETE FROM late_readings WHERE device_id = %s AND recorded_at >= %s AND recorded_at < %s"
_FORGET: tuple[LiteralString, ...] = tuple(
    f"DELETE FROM {table} WHERE device_id = %s AND level IN ({MINI}, {BASE}) AND first >= %s AND first < %s"  # noqa: S608  # constants
    for table in ("block_values", "block_columns")
)


async def _forget(connection: Connection, part: Part) -> None:
    """Delete the late readings of the part, and the values of blocks that are not there."""
    async with arrays.cursor(connection) as cursor:
        for statement in (_FORGET_LATE, *_FORGET):
            await cursor.execute(statement, (part.device_id, Moment(part.start), Moment(part.end)))
