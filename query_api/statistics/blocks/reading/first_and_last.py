"""The first and the last reading of each group, by the index of readings, in one statement for all items."""

from collections.abc import Sequence
from typing import Any, LiteralString

import msgspec
import numpy as np

from query_api.statistics.blocks.cutting import ends_of_months
from query_api.statistics.blocks.layout import AXES, Times
from query_api.statistics.blocks.reading.cover import Covered
from query_api.statistics.blocks.reading.gathered import Blocks
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.shards import by_shard, of_devices
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moment, Moments
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.readings.model import Microseconds

_Reading = tuple[Microseconds, float, float, float]


class TimedValue(msgspec.Struct, frozen=True):
    """A value of an axis, and the time of its reading."""

    time: Microseconds
    value: float


Ends = tuple[TimedValue, TimedValue]
"""The first and the last value of an axis."""

# The bounds that are the statement's own parameters leave the other months out of its plan.
_FIRST: LiteralString = """
    SELECT recorded_at, x, y, z FROM readings
    WHERE readings.device_id = item.device_id {of_shard} AND recorded_at >= item.starts AND recorded_at <= item.ends
      AND recorded_at >= %(first)s AND recorded_at <= %(until)s
    ORDER BY recorded_at, x, y, z LIMIT 1
"""
_LAST: LiteralString = """
    SELECT recorded_at, x, y, z FROM readings
    WHERE readings.device_id = item.device_id {of_shard} AND recorded_at >= item.starts AND recorded_at <= item.ends
      AND recorded_at >= %(since)s AND recorded_at <= %(last)s
    ORDER BY recorded_at DESC, x DESC, y DESC, z DESC LIMIT 1
"""
_STATEMENT = f"""
    SELECT item.number - 1, first.*, last.*
    FROM unnest(%(devices)s::bigint[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY
         AS item (device_id, starts, ends, number)
    CROSS JOIN LATERAL ({_FIRST}) AS first
    CROSS JOIN LATERAL ({_LAST}) AS last
"""  # noqa: S608  # constants
_PLAIN, _OF_SHARD = (_STATEMENT.format(of_shard=one).encode() for one in ("", of_devices("readings")))


async def read_first_and_last(
    connection: Connection, items: Items, covered: Covered, blocks: Blocks
) -> list[Sequence[Ends] | None]:
    """Return the first and the last value of x, y and z of each group; None for a group without readings.

    `blocks`: the whole blocks in the periods. Of readings at one time, the order is that of x, y and z. Zero has no
    sign.
    """
    found: list[list[_Reading]] = [[] for _ in range(items.count)]
    for item, *reading in await _rows(connection, items, covered, blocks):
        found[int(items.groups[item])] += [_reading(*reading[:4]), _reading(*reading[4:])]
    return [_ends(min(readings), max(readings)) if readings else None for readings in found]


def _reading(time: Microseconds, x: float, y: float, z: float) -> _Reading:
    return time, x, y, z


def _ends(first: _Reading, last: _Reading) -> Sequence[Ends]:
    return [
        (TimedValue(first[0], first[axis] + 0.0), TimedValue(last[0], last[axis] + 0.0))
        for axis in range(1, 1 + len(AXES))
    ]


async def _rows(connection: Connection, items: Items, covered: Covered, blocks: Blocks) -> list[tuple[Any, ...]]:
    """Return the place of each item that has readings, and time, x, y and z of its first and its last reading."""
    first_known, last_known = _known(items, covered, blocks)
    starts, ends = np.maximum(items.starts, first_known), np.minimum(items.ends, last_known)
    chosen = np.flatnonzero(starts <= ends)
    if len(chosen) == 0:
        return []
    first, last = int(starts[chosen].min()), int(ends[chosen].max())
    until, since = last, first
    if len(items.devices) == 1 and len(blocks):
        until, since = int(blocks.first.min()), int(blocks.first.max())  # the times of readings in the period
    bounds = {"first": Moment(first), "until": Moment(until), "since": Moment(since), "last": Moment(last)}
    statement = _OF_SHARD if await is_distributed(connection) else _PLAIN
    found: list[tuple[Any, ...]] = []
    for places in await by_shard(connection, items.devices[chosen]):
        own = chosen[places]
        periods = {
            "devices": Bigints(items.devices[own]), "starts": Moments(starts[own]), "ends": Moments(ends[own])
        }  # fmt: skip
        async with arrays.cursor(connection) as cursor:
            rows = await arrays.fetch(await cursor.execute(statement, bounds | periods, prepare=False))
        found += [(int(own[number]), *rest) for number, *rest in rows]
    return found


def _known(items: Items, covered: Covered, blocks: Blocks) -> tuple[Times, Times]:
    """Return the bounds of each item's readings: the extent of its device, and the months of its blocks.

    Blocks may have readings outside of the extent (ADR 28).
    """
    first, last = covered.first.copy(), covered.last.copy()
    order = np.argsort(items.devices)
    of_blocks = order[np.searchsorted(items.devices, blocks.device, sorter=order)]
    found = [(of_blocks, blocks.first), *((np.full(len(one.first), one.item), one.first) for one in covered.at_ends)]
    for item, begins in found:
        np.minimum.at(first, item, begins)
        np.maximum.at(last, item, ends_of_months(begins))
    return first, last
