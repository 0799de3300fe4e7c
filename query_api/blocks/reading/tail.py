"""The readings that are not sealed: rows."""

from typing import LiteralString

import numpy as np

from query_api.blocks.layout import Ints, Times
from query_api.blocks.reading.gathered import Gathered
from query_api.blocks.reading.items import Items
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moment, Moments
from shared.postgres.connections import Connection
from shared.readings.extents import extent_of
from shared.readings.model import to_microseconds

# The bounds that are the statement's own parameters leave the other months out of its plan.
_ONE: LiteralString = """
    SELECT 0, array_agg(x), array_agg(y), array_agg(z) FROM readings
    WHERE device_id = %(device)s AND recorded_at >= %(first)s AND recorded_at <= %(last)s
"""
_SEVERAL: LiteralString = """
    SELECT item.number - 1, tail.*
    FROM unnest(%(devices)s::bigint[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY
         AS item (device_id, starts, ends, number)
    CROSS JOIN LATERAL (
        SELECT array_agg(x), array_agg(y), array_agg(z) FROM readings
        WHERE readings.device_id = item.device_id AND recorded_at >= item.starts AND recorded_at <= item.ends
          AND recorded_at >= %(first)s AND recorded_at <= %(last)s
    ) AS tail
"""


async def read_tails(connection: Connection, items: Items, sealed: Times, gathered: Gathered) -> None:
    """Add the readings of each item that are not older than `sealed`."""
    starts = np.maximum(items.starts, sealed)
    open_items = np.flatnonzero(starts <= items.ends)
    if len(open_items) == 0:
        return
    devices, starts, ends = items.devices[open_items], starts[open_items], items.ends[open_items]
    first, last = await _within_extent(connection, devices, starts, ends)
    if first > last:
        return
    parameters = {
        "devices": Bigints(devices), "device": int(devices[0]), "starts": Moments(starts), "ends": Moments(ends),
        "first": Moment(first), "last": Moment(last),
    }  # fmt: skip
    async with arrays.cursor(connection) as cursor:
        await cursor.execute(_ONE if len(devices) == 1 else _SEVERAL, parameters, prepare=False)
        for number, *axes in await cursor.fetchall():
            if axes[0] is not None:
                gathered.add_readings(int(items.groups[open_items[number]]), axes)


async def _within_extent(connection: Connection, devices: Ints, starts: Times, ends: Times) -> tuple[int, int]:
    """Return the least and the greatest time that the rows of any item may have."""
    extent = await extent_of(connection, np.unique(devices).tolist())
    first, last = int(starts.min()), int(ends.max())
    if extent.first is not None:
        first = max(first, to_microseconds(extent.first))
    return first, last if extent.last is None else min(last, to_microseconds(extent.last))
