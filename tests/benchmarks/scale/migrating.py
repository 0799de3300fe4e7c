"""`devicestat migrate --roles` while readings are stored and a long transaction reads them."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from shared.postgres.connections import Connection, connect
from shared.postgres.patience import LOCK_TIMEOUT
from shared.postgres.roles import set_up
from shared.readings import store as readings
from shared.readings.model import Reading, to_microseconds
from shared.readings.partitions import Partitions
from tests.benchmarks.pairs import Finding

READING_S = 5.0
"""Duration of the transaction for which the migration waits."""
PAUSE_S = 0.005
_TAKE_BACK = "REASSIGN OWNED BY devicestat_readings TO CURRENT_USER"
"""As before roles were set up for the first time."""


def measure(url: str) -> Iterator[Finding]:
    """Measure the longest store of a reading, in milliseconds, alone and meanwhile."""
    yield asyncio.run(_measure(url))


async def _measure(url: str) -> str:
    async with await connect(url, "a") as dump, await connect(url, "b") as new, await connect(url, "c") as writer:
        await dump.execute(_TAKE_BACK)
        alone = await _longest(writer, asyncio.create_task(asyncio.sleep(READING_S / 2)))
        async with dump.transaction():
            await dump.execute("SELECT FROM readings LIMIT 1")
            changing = asyncio.create_task(set_up(new))
            meanwhile = await _longest(writer, asyncio.create_task(asyncio.sleep(READING_S)))
            assert not changing.done(), "it waits for the long transaction"
        await changing
    return (
        f"migrate --roles behind a transaction of {READING_S:g} s: a reading took {meanwhile * 1e3:.0f} ms at most, "
        f"{alone * 1e3:.0f} ms alone. The change waits for locks for {LOCK_TIMEOUT} at a time."
    )


async def _longest(connection: Connection, work: "asyncio.Task[None]") -> float:
    """Return the longest store of a reading during the work, in seconds."""
    partitions, longest = Partitions(), 0.0
    while not work.done():
        now = to_microseconds(datetime.now(UTC))
        one = [Reading(1, now, now, 1, 2, 3)]
        await partitions.ensure(connection, one)
        began = time.monotonic()
        await readings.store_requests(connection, [one])
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(PAUSE_S)
    return longest
