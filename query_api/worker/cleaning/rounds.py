"""One cleaning round: short transactions, each of which deletes a bounded number of rows.

Any number of workers may clean at once: a step passes over the rows that another one has locked.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from shared.postgres.connections import Connection

BATCH_ROWS = 1000
"""Rows that one step deletes at most, where its cleaner does not say otherwise."""
PASSES = 500
"""Steps of each cleaner in one round. The next round continues."""
PAUSE_S = 0.05
"""Between two passes, for the transactions of others."""


class Cleaner(msgspec.Struct, frozen=True):
    """The cleaning of one table.

    `step` deletes some rows that are past the retention, in one short transaction, and returns how many;
    0 when there are none.
    """

    table: str
    step: Callable[[Connection], Awaitable[int]]


async def clean(
    connection: Connection, cleaners: Sequence[Cleaner], *, passes: int = PASSES, pause_s: float = PAUSE_S
) -> Counter[str]:
    """Let the cleaners take turns, a step each, until none deletes anything; return the rows deleted by table."""
    deleted: Counter[str] = Counter()
    for _ in range(passes):
        busy = []
        for cleaner in cleaners:
            rows = await cleaner.step(connection)
            if rows:
                deleted[cleaner.table] += rows
                busy.append(cleaner)
        if not busy:
            break
        cleaners = busy
        await asyncio.sleep(pause_s)
    return deleted
