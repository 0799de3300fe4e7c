"""The round that checks a block at random against the readings that it was built of (ADR 41).

A wrong block is logged, counted, and built anew. It would be a fault of Devicestat, of the hardware, or a change of
`readings` by other means.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from query_api.statistics.blocks.building import Key
from query_api.statistics.blocks.checking.device import Checker
from query_api.statistics.blocks.checking.sampling import any_block
from query_api.statistics.blocks.layout import STANDARD, Layout
from query_api.statistics.blocks.tables import WrongBlock
from query_api.worker.maintenance.duty import SHARE, Duty, alone
from query_api.worker.metrics import WorkerMetrics
from shared.errors import DatabaseBusy
from shared.postgres.connections import Connection

MOST_MENDED = 10
"""Most wrong blocks of a device that sealing or settling builds anew, before it fails."""
T = TypeVar("T")

_log = structlog.get_logger()


class Scrub:
    """Checks blocks, one a round. `share`: of the time. `layout`: tests use a small one."""

    def __init__(self, metrics: WorkerMetrics, layout: Layout = STANDARD, share: float = SHARE) -> None:
        self._metrics = metrics
        self._layout = layout
        self._share = share

    async def scrub(self, connection: Connection) -> None:
        """Check one block if no other worker does so, and mend it. Rest after it, as sealing does."""
        duty = Duty(self._share)
        async with alone(connection, "scrubbing round") as is_alone:
            key = await any_block(connection) if is_alone else None
            if key is None:
                return
            await check(connection, key, self._metrics, self._layout)
            await duty.rest()


async def check(connection: Connection, key: Key, metrics: WorkerMetrics, layout: Layout) -> None:
    """Check the block, and build it anew if it is wrong. If another worker changes the device, do nothing."""
    try:
        found = await Checker(connection, mends=True, layout=layout, tries=1).block(key)
    except DatabaseBusy:
        return
    metrics.scrubbed.inc()
    metrics.scrub_mismatches.inc(len(found))
    for problem in found:
        _log.error("blocks were wrong, and were built anew", device_id=problem.device_id, problem=str(problem))


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
