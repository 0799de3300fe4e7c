"""Write the results of analyses, many in one statement.

A result is written at once if none was written within DISTANCE_S. Results that become ready meanwhile are written
together.
"""

import asyncio

import msgspec
import structlog

from query_api.queue import claims as queue
from query_api.queue.claims import Claim
from query_api.statistics.analysis import Analysis
from shared.postgres.connections import RETRYABLE, Pool

DISTANCE_S = 0.02
"""Shortest time from one statement to the next."""
MOST = 200
"""Results of one statement."""
ALONE = 2
"""Results that are written alone at a time. Each may wait for a lock, with a connection that others need."""

_log = structlog.get_logger()


class _Ended(msgspec.Struct, frozen=True, eq=False):
    """A claim with its result. `is_written`: False if the result must be written alone."""

    held: Claim
    found: Analysis
    is_written: asyncio.Future[bool]


class Finishing:
    """Writes results, in one statement at a time."""

    def __init__(self, database: Pool, tasks: asyncio.TaskGroup) -> None:
        self._database = database
        self._tasks = tasks
        self._waiting: list[_Ended] = []
        self._writing: asyncio.Task[None] | None = None
        self._alone = asyncio.Semaphore(ALONE)

    async def finish(self, held: Claim, found: Analysis) -> bool:
        """Write the result and end the request; False, with nothing written, if the claim is lost.

        Raises one of RETRYABLE if it cannot be written.
        """
        ended = _Ended(held, found, asyncio.get_running_loop().create_future())
        self._waiting.append(ended)
        if self._writing is None or self._writing.done():
            self._writing = self._tasks.create_task(self._write(), name="results")
        if await ended.is_written:
            return True
        async with self._alone, self._database.connection() as connection:
            return await queue.finish(connection, held, found)

    async def stop(self) -> None:
        """Cancel the statement in progress."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            next_at = loop.time() + DISTANCE_S
            some, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                done = await self._finish_all(some)
            except RETRYABLE as error:
                _fail(some, error)
            else:
                _resolve(some, done)
            await asyncio.sleep(next_at - loop.time())

    async def _finish_all(self, some: list[_Ended]) -> set[int]:
        """Return the ids of the requests that were ended. If the database refuses one, none is."""
        async with self._database.connection() as connection:
            try:
                return await queue.finish_all(connection, [(one.held, one.found) for one in some])
            except RETRYABLE:
                raise
            except Exception as error:  # noqa: BLE001  # the one that is refused raises it again when it is written alone
                _log.warning("results could not be written together: they are written one by one", reason=str(error))
                return set()


def _resolve(some: list[_Ended], done: set[int]) -> None:
    for one in some:
        if not one.is_written.done():  # the worker stops
            one.is_written.set_result(one.held.id in done)


def _fail(some: list[_Ended], error: BaseException) -> None:
    for one in some:
        if not one.is_written.done():
            one.is_written.set_exception(error)
