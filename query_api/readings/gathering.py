"""Readings of all requests, stored together where they come at one time (ADR 17).

What comes while others are being stored is stored by one statement: the more requests there are at once, the less each
of them costs. Nobody waits for ever: where the database does not answer, all who wait are told so.
"""

import asyncio
from collections.abc import Sequence
from itertools import chain

import msgspec
import psycopg
import structlog
from psycopg.errors import CheckViolation, DeadlockDetected

from query_api.http import problems
from query_api.http.problems import Refused
from shared.database import RETRYABLE, Connection, Pool
from shared.database_errors import diagnose
from shared.errors import DatabaseBusy, DatabaseError
from shared.live import Interest, announce
from shared.models import Reading
from shared.partitions import Partitions
from shared.readings import Kept, store_requests

WRITERS = 2
"""While one waits for its commit, what comes gathers for the other."""
MAX_TOGETHER = 10_000
"""Readings of one statement, besides those of the request that goes beyond it."""
MAX_WAITING = 100_000
"""Readings that wait; then requests are told to come back."""
DEADLOCKS = 3
"""It is tried again so often."""
PATIENCE_S = 8.0
"""A request that is not stored within this time is told so; that is sooner than the service stops at the latest."""

_log = structlog.get_logger()


class _Waiting(msgspec.Struct, frozen=True):
    """A request's readings, which wait to be stored."""

    readings: Sequence[Reading]
    kept: "asyncio.Future[Sequence[Kept] | None]"

    def answer(self, outcome: Sequence[Kept] | Exception | None) -> None:
        if self.kept.done():  # whoever asked has gone
            return
        if isinstance(outcome, Exception):
            self.kept.set_exception(outcome)
        else:
            self.kept.set_result(outcome)


class Gathering:
    """Stores what requests bring, and remembers the partitions that are there."""

    def __init__(self, database: Pool, interest: Interest) -> None:
        """`database`: a pool of its own, of WRITERS: however much is read, what comes is stored."""
        self._database = database
        self._interest = interest
        self._partitions = Partitions()
        self._queue = asyncio.Queue[_Waiting]()
        self._readings = 0  # in the queue

    async def run(self) -> None:
        """Stores what comes, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WRITERS):
                tasks.create_task(self._write(), name=f"gathering {number}")

    async def store(self, readings: Sequence[Reading]) -> Sequence[Kept] | None:
        """What became of each; None where one names an unknown device, and none is stored.

        Raises Refused where too many wait, or the wait is too long: then they may be stored or not.
        """
        if self._readings >= MAX_WAITING:
            raise _unavailable(f"{MAX_WAITING:,} readings wait to be stored")
        waiting = _Waiting(readings, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(waiting)
        self._readings += len(readings)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await waiting.kept
        except TimeoutError:
            raise _unavailable(f"not known to be stored after {PATIENCE_S:g} seconds") from None

    async def _write(self) -> None:
        while True:
            together = self._taken(await self._queue.get())
            while not self._queue.empty() and sum(len(one.readings) for one in together) < MAX_TOGETHER:
                together += self._taken(self._queue.get_nowait())
            if together:
                await self._store(together)

    def _taken(self, waiting: _Waiting) -> list[_Waiting]:
        """What was taken from the queue, if whoever asked is still there."""
        self._readings -= len(waiting.readings)
        return [] if waiting.kept.done() else [waiting]

    async def _store(self, together: Sequence[_Waiting]) -> None:
        """Stores them, and answers each; if the database refuses them together, it is asked for each alone."""
        try:
            async with self._database.connection() as connection:
                outcomes = await self._store_in(connection, [one.readings for one in together])
                for one, outcome in zip(together, outcomes, strict=True):
                    one.answer(outcome)
                await self._announce(connection, together)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(together) > 1:
                for one in together:
                    await self._store([one])
            else:
                together[0].answer(_dropping() if isinstance(error, CheckViolation) else error)
        except Exception as error:  # noqa: BLE001  # each of the requests is answered with it
            while _is_away(error) and not self._queue.empty():  # who waits need not wait for the same
                together = [*together, *self._taken(self._queue.get_nowait())]
            for one in together:
                one.answer(error)

    async def _store_in(
        self, connection: Connection, requests: Sequence[Sequence[Reading]]
    ) -> list[Sequence[Kept] | None]:
        try:
            return await self._try(connection, requests)
        except CheckViolation:  # retention has dropped a month that we know
            self._partitions.forget()
            return await self._try(connection, requests)

    async def _try(self, connection: Connection, requests: Sequence[Sequence[Reading]]) -> list[Sequence[Kept] | None]:
        """An ingestor copies in the order of receipt: it and we can wait for each other, and nothing is stored."""
        for _ in range(DEADLOCKS):
            try:
                await self._partitions.ensure(connection, chain.from_iterable(requests))
                return await store_requests(connection, requests)
            except DeadlockDetected:
                _log.info("storing the same readings as an ingestor: once more")
        return await store_requests(connection, requests)

    async def _announce(self, connection: Connection, together: Sequence[_Waiting]) -> None:
        try:
            await announce(connection, self._interest, [reading for one in together for reading in one.readings])
        except RETRYABLE as error:
            _log.warning("who listens was not told of readings that were stored", reason=str(diagnose(error)))


def _is_away(error: Exception) -> bool:
    """Whether the next statement would fail, too: a DatabaseBusy is about one statement."""
    return isinstance(error, DatabaseError) and not isinstance(error, DatabaseBusy)


def _unavailable(why: str) -> Refused:
    return Refused(
        problems.UNAVAILABLE,
        f"{why}: send them again in {problems.RETRY_AFTER_S} seconds; those with a timestamp are not stored twice",
        headers=problems.RETRY_AFTER,
    )


def _dropping() -> Refused:
    """Its month ended longer ago than RETENTION and is being dropped: until it is gone, nothing can be added to it."""
    return _unavailable("the month of a reading is being dropped, since it ended longer ago than RETENTION")
