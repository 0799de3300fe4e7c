"""Sealing: readings of announced times become blocks of levels MINI and BASE."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np

from query_api.statistics.blocks import tables
from query_api.statistics.blocks.building import Columns, Key
from query_api.statistics.blocks.cutting import cuts, months_of
from query_api.statistics.blocks.layout import BASE, MINI, STANDARD, Layout
from query_api.statistics.blocks.sealing.sealed_device import SealedDevice, first_unsealed, locked, read_rows
from shared.postgres import arrays
from shared.postgres.arrays import Moment
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds

STEP_READINGS = 1 << 18
"""Readings that one transaction seals, besides those of the moment of the last one. They take 30 MB."""


class Step(msgspec.Struct, frozen=True):
    """What one transaction has sealed. `is_done`: no older readings than announced are left, or can be sealed now."""

    readings: int
    is_done: bool


async def seal_step(
    connection: Connection,
    device_id: int,
    until: Microseconds,
    layout: Layout = STANDARD,
    step_readings: int = STEP_READINGS,
) -> Step:
    """Seal up to `step_readings` readings of those before `until`, in one transaction.

    `until` was announced, and its writers were waited for.
    """
    async with locked(connection, device_id) as device:
        if device is None or device.sealed >= until:
            return Step(0, is_done=True)
        assert until <= device.announced, "writers copy what is older"
        first = await first_unsealed(connection, device, until)
        end, is_done = await end_of_step(connection, device_id, first, until, step_readings)
        columns = await read_rows(connection, device_id, first, end)
        if columns is not None:
            await _insert(connection, device_id, columns, layout)
        await _advance(connection, device, end)
        return Step(0 if columns is None else len(columns), is_done)


# By the index, up to the moment of the reading behind the step.
_END = """
    SELECT recorded_at FROM readings
    WHERE device_id = %(device_id)s AND recorded_at >= %(first)s AND recorded_at < %(until)s
    ORDER BY recorded_at OFFSET %(readings)s LIMIT 1
"""


async def end_of_step(
    connection: Connection, device_id: int, first: Microseconds, until: Microseconds, readings: int
) -> tuple[Microseconds, bool]:
    """Return where the step ends, and whether this is the last one. All readings of one moment are in one step."""
    if first >= until:
        return until, True
    parameters = {"device_id": device_id, "first": Moment(first), "until": Moment(until), "readings": readings}
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_END, parameters, prepare=False)).fetchone()
    if row is None:
        return until, True
    return max(row[0], first + 1), False


async def _insert(connection: Connection, device_id: int, columns: Columns, layout: Layout) -> None:
    """Insert the blocks of new readings, with those of the mini blocks that can be absorbed."""
    minis = await _trailing_minis(connection, device_id)
    if minis and _absorbs([count for _, count in minis], minis[0][0].first, columns, layout):
        old = [await tables.read_columns(connection, key, count, layout) for key, count in minis]
        await tables.delete(connection, (key for key, _ in minis))
        columns = Columns.joined([*old, columns])
    await tables.insert_read(connection, device_id, split(columns, layout), layout)


def _absorbs(counts: Sequence[int], first: Microseconds, columns: Columns, layout: Layout) -> bool:
    """Whether mini blocks make up base blocks with the new readings: they are many, or their month has ended."""
    months = months_of(np.array([first, columns.last]))
    return sum(counts) + len(columns) >= layout.targets[BASE] or months[0] != months[1]


def split(columns: Columns, layout: Layout) -> list[tuple[int, Columns]]:
    """Return the blocks of readings after which more will follow, each with its level."""
    ends = cuts(columns.times, layout.targets[BASE], is_open=True)
    parts = [columns[begin:end] for begin, end in pairwise([0, *ends])]
    is_rest = len(parts[-1]) < layout.targets[BASE]
    return [*((BASE, part) for part in parts[:-1]), (MINI if is_rest else BASE, parts[-1])]


# Behind the last base block: older ones were left where late readings have made up blocks, and stay.
_MINIS = """
    SELECT first, count FROM blocks
    WHERE device_id = %(device_id)s AND level = 0 AND first > coalesce(
        (SELECT max(first) FROM blocks WHERE device_id = %(device_id)s AND level = 1), '-infinity')
    ORDER BY first
"""


async def _trailing_minis(connection: Connection, device_id: int) -> list[tuple[Key, int]]:
    async with arrays.cursor(connection) as cursor:
        await cursor.execute(_MINIS, {"device_id": device_id})
        return [(Key(device_id, MINI, first), count) for first, count in await cursor.fetchall()]


_FORGET_LATE = """
    DELETE FROM late_readings WHERE device_id = %(device_id)s AND recorded_at >= %(sealed)s AND recorded_at < %(end)s
"""
_ADVANCE = "UPDATE sealed_devices SET sealed = %(end)s WHERE device_id = %(device_id)s"


async def _advance(connection: Connection, device: SealedDevice, end: Microseconds) -> None:
    """Late readings that the snapshot contains are in a block now. Others stay late."""
    async with arrays.cursor(connection) as cursor:
        parameters = {"device_id": device.device_id, "sealed": Moment(device.sealed), "end": Moment(end)}
        await cursor.execute(_FORGET_LATE, parameters)
        await cursor.execute(_ADVANCE, {"device_id": device.device_id, "end": Moment(end)})
