"""Readings of all requests, stored together where they come at one time (ADR 17).

What comes while others are being stored is stored by one statement: the more requests there are at once, the less each
of them costs. Nobody waits for ever: where the database does not answer, all who wait are told so.
"""

import asyncio
from collections.abc import Sequence, Set
from itertools import chain, compress

import psycopg
import structlog
from psycopg.errors import CheckViolation, DeadlockDetected

from query_api.readings.waiting import FairQueue, Waiting, unavailable
from query_api.web.answers.problems import Refused
from shared.errors import DatabaseBusy, DatabaseError
from shared.postgres.connections import RETRYABLE, Connection, Pool
from shared.postgres.errors import diagnose
from shared.readings.announce import Interest, announce
from shared.readings.model import Reading
from shared.readings.partitions import Partitions
from shared.readings.store import Kept, store_requests

WRITERS = 2
"""While one waits for its commit, what comes gathers for the other."""
MAX_TOGETHER = 10_000
"""Readings of one statement, besides those of the request that goes beyond it."""
DEADLOCKS = 3
"""It is tried again so often."""
PATIENCE_S = 8.0
"""A request that is not stored within this time is told so; that is sooner than the service stops at the latest."""

_log = structlog.get_logger()


class Gathering:
    """Stores what requests bring, and remembers the partitions that are there."""

    def __init__(self, database: Pool, interest: Interest, queue: FairQueue) -> None:
        """`database`: a pool of its own, of WRITERS: however much is read, what comes is stored."""
        self._database = database
        self._interest = interest
        self._partitions = Partitions()
        self._queue = queue

    async def run(self) -> None:
        """Stores what comes, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WRITERS):
                tasks.create_task(self._write(), name=f"gathering {number}")

    async def store(self, readings: Sequence[Reading], caller: str) -> Sequence[Kept] | None:
        """What became of each; None where one names an unknown device, and none is stored.

        Raises Refused where too many of the caller or of all wait, or the wait is too long: then they may be stored
        or not.
        """
        waiting = Waiting(readings, asyncio.get_running_loop().create_future())
        self._queue.put(caller, waiting)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await waiting.kept
        except TimeoutError:
            raise unavailable(f"not known to be stored after {PATIENCE_S:g} seconds") from None

    async def _write(self) -> None:
        while True:
            together = [await self._queue.next()]
            while not self._queue.is_empty and sum(len(one.readings) for one in together) < MAX_TOGETHER:
                together.append(self._queue.take())
            if there := [one for one in together if not one.kept.done()]:  # whose clients have not gone
                await self._store(there)

    async def _store(self, together: Sequence[Waiting]) -> None:
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
            while _is_away(error) and not self._queue.is_empty:  # the others need not wait for the same
                together = [*together, self._queue.take()]
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
        for left in reversed(range(DEADLOCKS + 1)):
            try:
                absent = await self._partitions.ensure(connection, chain.from_iterable(requests))
                return await _store_present(connection, requests, absent)
            except DeadlockDetected:
                if not left:
                    raise
                _log.info("storing the same readings as an ingestor: once more")
        raise AssertionError("the last attempt returns or raises")

    async def _announce(self, connection: Connection, together: Sequence[Waiting]) -> None:
        try:
            await announce(connection, self._interest, [reading for one in together for reading in one.readings])
        except RETRYABLE as error:
            _log.warning("who listens was not told of readings that were stored", reason=str(diagnose(error)))


async def _store_present(
    connection: Connection, requests: Sequence[Sequence[Reading]], absent: Set[int]
) -> list[Sequence[Kept] | None]:
    """Stores the requests but those for a device that was absent: if it was registered since, it has no extent yet."""
    if not absent:
        return await store_requests(connection, requests)
    present = [absent.isdisjoint(reading.device_id for reading in request) for request in requests]
    stored = iter(await store_requests(connection, list(compress(requests, present))) if any(present) else ())
    return [next(stored) if is_present else None for is_present in present]


def _is_away(error: Exception) -> bool:
    """Whether the next statement would fail, too: a DatabaseBusy is about one statement."""
    return isinstance(error, DatabaseError) and not isinstance(error, DatabaseBusy)


def _dropping() -> Refused:
    """Its month ended longer ago than RETENTION and is being dropped: until it is gone, nothing can be added to it."""
    return unavailable("the month of a reading is being dropped, since it ended longer ago than RETENTION")
