"""What was read of the status, kept for a short time, so that requests for it cannot load the database.

The cheap part is read when a request finds it older than two seconds. The other part is read in the background, every
30 seconds while somebody asks, and for a tenth of the time at most. Requests of all clients share both.
"""

import asyncio
import time

import structlog

from query_api.web.operating.status.examining import Examination, examine
from query_api.web.operating.status.reading import Reading, read
from shared.errors import DatabaseUnreachable
from shared.postgres.connections import RETRYABLE, Pool
from shared.postgres.errors import diagnose

FRESH_S = 2.0
"""Age in seconds up to which the cheap part is returned as it is."""
EXAMINE_S = 30.0
"""Interval of the examinations."""
SHARE = 0.1
"""Largest share of the time that one process reads."""

_log = structlog.get_logger()


class Picture:
    """The status, as this process has read it last."""

    def __init__(self, database: Pool, fresh_s: float = FRESH_S, examine_s: float = EXAMINE_S) -> None:
        self._database = database
        self._fresh_s = fresh_s
        self._examine_s = examine_s
        self._reading: Reading | None = None
        self._fresh_until = float("-inf")
        self._refreshing: asyncio.Task[Reading] | None = None
        self._asked = asyncio.Event()
        self._asked.set()
        self.examination = Examination()

    async def reading(self) -> Reading:
        """Return the cheap part, at most FRESH_S old. Raises DatabaseError."""
        self._asked.set()
        if self._reading is not None and time.monotonic() < self._fresh_until:
            return self._reading
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name="status")
        return await asyncio.shield(self._refreshing)

    async def _refresh(self) -> Reading:
        began = time.monotonic()
        async with self._database.connection() as connection:
            self._reading = await read(connection)
        now = time.monotonic()
        self._fresh_until = now + max(self._fresh_s, (now - began) / SHARE)
        return self._reading

    async def examine(self) -> None:
        """Examine the database in the background until cancelled: at the start, and then while somebody asks."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            began = time.monotonic()
            await self._try_to_examine()
            await asyncio.sleep(max(self._examine_s, (time.monotonic() - began) / SHARE))

    async def _try_to_examine(self) -> None:
        try:
            async with self._database.connection() as connection:
                self.examination = await examine(connection)
        except RETRYABLE as error:
            fault = diagnose(error)
            if not isinstance(fault, DatabaseUnreachable):  # the health of the process has it
                _log.warning("the database could not be examined", reason=str(fault))
