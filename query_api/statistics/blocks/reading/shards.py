"""Statements about several devices on a Citus cluster: where it needs them, one for the devices of each shard.

Citus sends a statement as it is to a node if it knows that the rows of each table are of one shard. It knows that from
`device_id = ANY(devices)` with devices of one shard, but not from a join or a lateral reference. Without Citus there is
one statement for all devices, and it needs no such condition.
"""

from collections.abc import Sequence
from typing import LiteralString

import numpy as np

from query_api.statistics.blocks.layout import Ints
from shared.postgres import arrays
from shared.postgres.arrays import Bigints
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed

_SHARDS = """
    SELECT array_agg(get_shard_id_for_distribution_column('readings', device_id) ORDER BY number)
    FROM unnest(%s::bigint[]) WITH ORDINALITY AS device (device_id, number)
"""


def of_devices(table: LiteralString) -> LiteralString:
    """Return the condition by which Citus finds the shards of a table. `table`: its name in the statement."""
    return f"AND {table}.device_id = ANY(%(devices)s::bigint[])"


async def by_shard(connection: Connection, devices: Ints) -> Sequence[Ints]:
    """Return the places of the devices of each shard."""
    every = np.arange(len(devices))
    if len(devices) == 0 or (devices == devices[0]).all() or not await is_distributed(connection):
        return [every] if len(devices) else []
    different, place = np.unique(devices, return_inverse=True)
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_SHARDS, (Bigints(different),))).fetchone()
    assert row is not None, "an aggregate has one row"
    shards = row[0][place]
    order = np.argsort(shards, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(shards[order])) + 1)
