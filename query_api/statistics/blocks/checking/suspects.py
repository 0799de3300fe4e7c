"""Blocks that a read has found damaged. The worker checks them before others."""

from collections.abc import Sequence

import numpy as np

from query_api.statistics.blocks.building import Key
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moment, Moments
from shared.postgres.connections import Connection

_SUSPECT = """
    INSERT INTO suspected_blocks (device_id, level, first)
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[]) ON CONFLICT DO NOTHING
"""


async def suspect(connection: Connection, keys: Sequence[Key]) -> None:
    """Ask for a check of these blocks."""
    devices, levels, firsts = np.array([(key.device_id, key.level, key.first) for key in keys], np.int64).T
    async with arrays.cursor(connection) as cursor:
        await cursor.execute(_SUSPECT, (Bigints(devices), Bigints(levels), Moments(firsts)))


# At random, so that a block whose device stays locked does not keep the others waiting.
_ANY = "SELECT device_id, level::integer, first FROM suspected_blocks ORDER BY random() LIMIT 1"
_CLEAR = "DELETE FROM suspected_blocks WHERE device_id = %s AND level = %s AND first = %s"


async def any_suspect(connection: Connection) -> Key | None:
    """Return a block of which a check was asked; None if there is none."""
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_ANY)).fetchone()
    return None if row is None else Key(*row)


async def clear(connection: Connection, key: Key) -> None:
    """Delete the request for a check of this block."""
    async with arrays.cursor(connection) as cursor:
        await cursor.execute(_CLEAR, (key.device_id, key.level, Moment(key.first)))
