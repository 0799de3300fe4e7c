"""The round that checks blocks against the readings that they were built of (ADR 41).

It begins with those that a read has found damaged, and then draws one at random. A wrong block is logged, counted, and
built anew. It would be a fault of Devicestat, of the hardware, or a change of `readings` by other means.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from query_api.statistics.blocks.building import Key
from query_api.statistics.blocks.checking.device import Checker
from query_api.statistics.blocks.checking.sampling import any_block
from query_api.statistics.blocks.checking.suspects import any_suspect, clear
from query_api.statistics.blocks.layout import STANDARD, Layout
from query_api.statistics.blocks.tables import WrongBlock
from query_api.worker.maintenance.duty import SHARE, Duty, alone, note_failure
from query_api.worker.metrics import WorkerMetrics
from shared.errors import DatabaseBusy
from shared.postgres.connections import Connection

MOST_MENDED = 10
"""Most wrong blocks of a device that sealing or settling builds anew, before it fails."""
ROUND_S = 60.0
"""No further damaged block is checked after this time. The next round continues."""
T = TypeVar("T")

_log = structlog.get_logger()


class Scrub:
    """Checks blocks. `share`: of the time. `layout`: tests use a small one."""

    def __init__(self, metrics: WorkerMetrics, layout: Layout = STANDARD, share: float = SHARE) -> None:
        self._metrics = metrics
        self._layout = layout
        self._share = share

    async def scrub(self, connection: Connection) -> None:
        """Check the damaged blocks, and one at random, if no other worker does so. Mend them.

        Rest after each, as sealing does.
        """
        ends_at, duty = time.monotonic() + ROUND_S, Duty(self._share)
        async with alone(connection, "scrubbing round") as is_alone:
            if is_alone:
                await self._check_suspects(connection, duty, ends_at)
                key = await any_block(connection)
                if key is not None:
                    await self._try_to_check(connection, key)
                    await duty.rest()

    async def _check_suspects(self, connection: Connection, duty: Duty, ends_at: float) -> None:
        while time.monotonic() < ends_at and (key := await any_suspect(connection)) is not None:
            if not await self._try_to_check(connection, key):
                return
            await clear(connection, key)
            await duty.rest()

    async def _try_to_check(self, connection: Connection, key: Key) -> bool:
        """Check the block. If that fails, log and count it. Return False if the block is being changed."""
        try:
            return await check(connection, key, self._metrics, self._layout)
        except Exception as error:  # noqa: BLE001  # it is logged and counted
            note_failure(error, "checking", key.device_id, self._metrics)
            return True


async def check(connection: Connection, key: Key, metrics: WorkerMetrics, layout: Layout) -> bool:
    """Check the block, and build it anew if it is wrong.

    Return False, and do nothing, if another worker changes the device or retention drops a month.
    """
    try:
        found = await Checker(connection, mends=True, layout=layout, tries=1).block(key)
    except DatabaseBusy:
        return False
    metrics.scrubbed.inc()
    metrics.scrub_mismatches.inc(len(found))
    for problem in found:
        _log.error("blocks were wrong, and were built anew", device_id=problem.device_id, problem=str(problem))
    return True


async def mending(
    act: Callable[[], Awaitable[T]], connection: Connection, metrics: WorkerMetrics, layout: Layout, duty: Duty
) -> T:
    """Do the work; after each wrong block that it meets, build the block anew and continue.

    Raises WrongBlock if a block stays wrong, or after MOST_MENDED.
    """
    mended: set[Key] = set()
    while True:
        try:
            return await act()
        except WrongBlock as error:
            if error.key in mended or len(mended) == MOST_MENDED:
                raise
            mended.add(error.key)
            await check(connection, error.key, metrics, layout)
            await duty.rest()
