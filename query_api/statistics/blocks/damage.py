"""Damage that a read finds: arrays of blocks that are missing, or that do not have the values of their blocks.

The read fails, and its snapshot asks the worker to check these blocks first (`reading/snapshot.py`).
"""

from collections.abc import Sequence

import numpy as np

from query_api.statistics.blocks.building import Key
from query_api.statistics.blocks.layout import AXES, BASE, Ints, Layout, Times
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moments
from shared.postgres.connections import Connection

MOST = 100
"""Damaged blocks that one read names."""
_NAMED = 10
"""Devices that the message names."""
_VALUE_BYTES = 8


class DamagedBlocks(Exception):
    """Arrays of these blocks are missing, or do not have the values of the blocks. `devices`: those of the blocks."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = sorted(set(keys), key=lambda key: (key.device_id, key.level, key.first))
        self.devices = sorted({key.device_id for key in keys})
        super().__init__(
            f"{'a block is' if len(self.keys) == 1 else 'blocks are'} damaged, of device "
            f"{', '.join(map(str, self.devices[:_NAMED]))}: the worker builds such blocks anew, and so does "
            "`devicestat blocks check --mend`"
        )


def require_marks(device: int, level: Ints, first: Times, count: Ints, marks: bytes, layout: Layout) -> None:
    """Raise DamagedBlocks, with all these blocks, if they do not have these marks of x, y and z."""
    if len(marks) != _VALUE_BYTES * len(AXES) * int(layout.mark_counts(count).sum()):
        raise DamagedBlocks(_keys(device, level, first))


def require_times(device: int, level: Ints, first: Times, count: Ints, times: bytes, layout: Layout) -> None:
    """Raise DamagedBlocks, with all these blocks of readings, if they do not have these kept times."""
    if len(times) != _VALUE_BYTES * int((-(-count // layout.time_stride)).sum()):
        raise DamagedBlocks(_keys(device, level, first))


def _keys(device: int, level: Ints, first: Times) -> list[Key]:
    return [Key(device, *key) for key in zip(level.tolist(), first.tolist(), strict=True)]


_LENGTHS = """
    SELECT block.device_id, block.level::integer, block.first, block.count::bigint, octet_length(block.marks),
           coalesce(octet_length(block.times), 0)
    FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[]) AS suspect (device_id, level, first)
    JOIN blocks AS block ON block.device_id = suspect.device_id AND block.level = suspect.level::smallint
     AND block.first = suspect.first
"""


async def narrowed(connection: Connection, damaged: DamagedBlocks, layout: Layout) -> DamagedBlocks:
    """Return the error with those of its blocks whose marks or times have another length than their count says.

    It is in the snapshot of the read.
    """
    keys = damaged.keys
    columns = np.array([(key.device_id, key.level, key.first) for key in keys], np.int64).T
    parameters = (Bigints(columns[0]), Bigints(columns[1]), Moments(columns[2]))
    async with arrays.cursor(connection) as cursor:
        rows = await (await cursor.execute(_LENGTHS, parameters)).fetchall()
    wrong = [Key(*key) for *key, count, marks, times in rows if _is_wrong(key[1], count, marks, times, layout)]
    return DamagedBlocks(wrong[:MOST] or keys[:MOST])


def _is_wrong(level: int, count: int, marks: int, times: int, layout: Layout) -> bool:
    expected = len(AXES) * int(layout.mark_counts(np.array([count]))[0])
    kept = -(-count // layout.time_stride) if level <= BASE else 0
    return (marks, times) != (_VALUE_BYTES * expected, _VALUE_BYTES * kept)
