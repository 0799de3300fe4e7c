"""Stores the readings of concurrent requests together (ADR 17).

Requests that arrive during a commit wait, and the next statement stores all of them. So the cost of a request falls as
the load rises. Each wait has a limit: if the database does not respond, each waiting request fails with the reason.
"""

import asyncio
import time
from collections.abc import Sequence, Set
from itertools import compress

import psycopg
import structlog
from psycopg.errors import CheckViolation, DeadlockDetected

from query_api.readings.waiting import FairQueue, Waiting, unavailable
from query_api.web.answers.problems import Refused
from shared.errors import DatabaseBusy, DatabaseError
from shared.postgres.connections import RETRYABLE, Connection, Pool
from shared.postgres.errors import diagnose
from shared.readings.announce import Interest, announce
from shared.readings.partitions import Partitions
from shared.readings.rows import Rows
from shared.readings.store import StoredIds, store_requests

WRITERS = 2
"""While one waits for its commit, requests collect for the other."""
MAX_TOGETHER = 10_000
"""Readings of one statement. The request that exceeds it is stored whole."""
DEADLOCKS = 3
"""The number of retries after a deadlock."""
PATIENCE_S = 8.0
"""The longest wait of a request. It is shorter than the time that the service takes to stop."""

_log = structlog.get_logger()


class WriteBatcher:
    """Stores the readings of requests, and caches which partitions exist."""

    def __init__(self, database: Pool, interest: Interest, queue: FairQueue, wait_s: float = PATIENCE_S) -> None:
        """`database`: a pool of WRITERS connections that nothing else uses, so that reads never delay writes."""
        self._database = database
        self._interest = interest
        self._partitions = Partitions()
        self._queue = queue
        self._wait_s = wait_s

    async def run(self) -> None:
        """Store the readings of requests until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WRITERS):
                tasks.create_task(self._write(), name=f"write batcher {number}")

    async def store(self, readings: Rows, caller: str) -> StoredIds | None:
        """Store the readings and return their ids; or store none and return None if one names an unknown device.

        Raises Refused if too many readings of the caller, or of all callers, wait. Also raises Refused after the
        longest wait. The refusal says whether they may be stored.
        """
        waiting = Waiting(caller, readings, asyncio.get_running_loop().create_future())
        self._queue.put(waiting)
        try:
            async with asyncio.timeout(self._wait_s):
                return await waiting.outcome
        except TimeoutError:
            raise self._not_in_time(waiting) from None

    def _not_in_time(self, waiting: Waiting) -> Refused:
        if self._queue.remove(waiting):
            return unavailable(f"the readings are not stored: the database was busy for {self._wait_s:g} seconds")
        return unavailable(f"unknown whether the readings were stored after {self._wait_s:g} seconds")

    async def _write(self) -> None:
        while True:
            together = [await self._queue.next()]
            while not self._queue.is_empty and sum(len(one.readings) for one in together) < MAX_TOGETHER:
                together.append(self._queue.take())
            if there := [one for one in together if not one.outcome.done()]:  # requests of connected clients
                await self._store(there)

    async def _store(self, together: Sequence[Waiting]) -> None:
        """Store the requests, and answer each. If the database refuses them together, store each alone."""
        try:
            async with self._database.connection() as connection:
                began = time.perf_counter()  # the loop's clock may stand still for a millisecond
                outcomes = await self._store_in(connection, [one.readings for one in together])
                took_s = time.perf_counter() - began
                for one, outcome in zip(together, outcomes, strict=True):
                    one.answer(outcome)
                self._measure(together, took_s)
                await self._announce(connection, together)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(together) > 1:
                for one in together:
                    await self._store([one])
            else:
                together[0].answer(_dropping() if isinstance(error, CheckViolation) else error)
        except Exception as error:  # noqa: BLE001  # each request raises it
            while _is_unavailable(error) and not self._queue.is_empty:  # they would fail, too
                together = [*together, self._queue.take()]
            for one in together:
                one.answer(error)

    def _measure(self, together: Sequence[Waiting], took_s: float) -> None:
        count = sum(len(one.readings) for one in together)
        self._queue.measured(count, WRITERS * count / took_s)

    async def _store_in(self, connection: Connection, requests: Sequence[Rows]) -> list[StoredIds | None]:
        try:
            return await self._try(connection, requests)
        except CheckViolation:  # retention has dropped a month that is cached
            self._partitions.forget()
            return await self._try(connection, requests)

    async def _try(self, connection: Connection, requests: Sequence[Rows]) -> list[StoredIds | None]:
        """An ingestor copies a device in the order of receipt, so it can deadlock with this transaction: retry."""
        for left in reversed(range(DEADLOCKS + 1)):
            try:
                absent = await self._partitions.ensure(connection, Rows.joined(requests))
                return await _store_present(connection, requests, absent)
            except DeadlockDetected:
                if not left:
                    raise
                _log.info("deadlock with an ingestor that stores the same readings: retrying")
        raise AssertionError("the last attempt returns or raises")

    async def _announce(self, connection: Connection, together: Sequence[Waiting]) -> None:
        if not self._interest:
            return
        try:
            await announce(connection, self._interest, Rows.joined(one.readings for one in together))
        except RETRYABLE as error:
            _log.warning("could not notify live streams of stored readings", reason=str(diagnose(error)))


async def _store_present(connection: Connection, requests: Sequence[Rows], absent: Set[int]) -> list[StoredIds | None]:
    """Store the requests, except those for an absent device: if it was registered meanwhile, it has no extent yet."""
    if not absent:
        return await store_requests(connection, requests)
    present = [absent.isdisjoint(request.devices()) for request in requests]
    stored = iter(await store_requests(connection, list(compress(requests, present))) if any(present) else ())
    return [next(stored) if is_present else None for is_present in present]


def _is_unavailable(error: Exception) -> bool:
    """Return whether the next statement would fail, too. A DatabaseBusy concerns one statement."""
    return isinstance(error, DatabaseError) and not isinstance(error, DatabaseBusy)


def _dropping() -> Refused:
    """Return the refusal of a reading whose month RETENTION is dropping: a detached month takes no rows."""
    return unavailable("the month of a reading is older than RETENTION and is being dropped")
