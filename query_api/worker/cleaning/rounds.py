"""One cleaning round: short transactions, each of which deletes a bounded number of rows.

Any number of workers may clean concurrently: a step skips rows that another worker has locked.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import LiteralString

import msgspec

from shared.postgres.connections import Connection

BATCH_ROWS = 1000
"""Most rows that one step deletes, unless its cleaner has another limit."""
PASSES = 500
"""Most steps of each cleaner in one round. The next round continues."""
PAUSE_S = 0.05
"""Pause between two passes, for other transactions."""


class Cleaner(msgspec.Struct, frozen=True):
    """The cleaning of one table.

    `step` deletes some rows that are past their retention in one short transaction, and returns their number.
    """

    table: str
    step: Callable[[Connection], Awaitable[int]]


async def delete(connection: Connection, *, statement: LiteralString, limit: int = BATCH_ROWS, **values: object) -> int:
    """Run a DELETE of up to `limit` rows. Return the number of deleted rows."""
    return (await connection.execute(statement, {"limit": limit, **values})).rowcount


async def expire(connection: Connection, *, statement: LiteralString, limit: int = BATCH_ROWS, **values: object) -> int:
    """Call a function of the database that deletes up to `limit` rows. Return its result, their number."""
    row = await (await connection.execute(statement, {"limit": limit, **values})).fetchone()
    assert row is not None, "the function returns one row"
    return int(row[0])


async def clean(
    connection: Connection, cleaners: Sequence[Cleaner], *, passes: int = PASSES, pause_s: float = PAUSE_S
) -> Counter[str]:
    """Run a step of each cleaner in turn until none deletes any rows. Return the number of deleted rows by table."""
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
