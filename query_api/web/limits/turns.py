"""Bound the concurrency of slow work per caller and in total, and share it fairly.

A request runs immediately while its caller has fewer than `each` running requests and all callers fewer than `running`.
Otherwise it waits for up to `patience` seconds. A free place goes to the waiting caller with the fewest running
requests. A request beyond the bounds for waiting is refused: 429 for the bound of the caller, 503 for the total.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Refused
from query_api.web.limits.callers import caller_of
from shared.errors import QueryCutOff
from shared.postgres.connections import Connection, Pool

RETRY_AFTER_S = 2


class Bounds(msgspec.Struct, frozen=True):
    """Bounds for one kind of work, in requests: running and waiting, in total and for each caller."""

    running: int
    each: int
    waiting: int
    waiting_each: int


class TurnsMetrics:
    """Metrics of all kinds of slow work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running = Gauge("devicestat_http_slow_running", "Slow requests that run.", ["work"], registry=registry)
        self.waiting = Gauge("devicestat_http_slow_waiting", "Slow requests that wait.", ["work"], registry=registry)
        self.refused = Counter(
            "devicestat_http_slow_refused", "Slow requests refused, by the bound: caller or all.", ["work", "bound"],
            registry=registry,
        )  # fmt: skip


class _Waiting(msgspec.Struct, frozen=True):
    caller: str
    granted: "asyncio.Future[None]"


class Place:
    """A request's right to run."""

    def __init__(self, turns: "Turns", caller: str) -> None:
        self._turns: Turns | None = turns
        self._caller = caller

    def free(self) -> None:
        """Give the place to the next request. It may be called twice."""
        if self._turns is not None:
            turns, self._turns = self._turns, None
            turns.leave(self._caller)


class Turns:
    """The places for one kind of work."""

    def __init__(self, work: str, bounds: Bounds, patience: float, metrics: TurnsMetrics) -> None:
        """`work`: its name in messages and metrics. `patience`: seconds that a request waits."""
        self._work = work
        self._bounds = bounds
        self._patience = patience
        self._metrics = metrics
        self._running = Tally[str]()
        self._waiting: list[_Waiting] = []

    async def take(self, caller: str) -> Place:
        """Take a place. The caller must call `Place.free`. Raises Refused."""
        if self._may_run(caller):
            self._enter(caller)
        else:
            await self._wait(caller)
        return Place(self, caller)

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[Place]:
        """Take a place for the block, or until `Place.free`. Raises Refused."""
        place = await self.take(caller)
        try:
            yield place
        finally:
            place.free()

    def leave(self, caller: str) -> None:
        """Return one of the caller's places."""
        self._running[caller] -= 1
        if not self._running[caller]:
            del self._running[caller]
        self._let_next_in()
        self._show()

    def _may_run(self, caller: str) -> bool:
        return self._running.total() < self._bounds.running and self._running[caller] < self._bounds.each

    def _enter(self, caller: str) -> None:
        self._running[caller] += 1
        self._show()

    async def _wait(self, caller: str) -> None:
        self._require_room(caller)
        waiting = _Waiting(caller, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._show()
        try:
            async with asyncio.timeout(self._patience):
                await waiting.granted
        except BaseException as error:
            self._give_up(waiting)
            if isinstance(error, TimeoutError):
                raise self._refused(caller, "caller" if self._running[caller] >= self._bounds.each else "all") from None
            raise

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting.granted.done() and not waiting.granted.cancelled():
            self.leave(waiting.caller)  # the place was granted as the request was cancelled
        else:
            self._waiting.remove(waiting)
            self._show()

    def _let_next_in(self) -> None:
        # A wait that was cancelled stays in the list until its own task runs; its future is done.
        ready = [one for one in self._waiting if not one.granted.done() and self._may_run(one.caller)]
        if ready:
            first = min(ready, key=lambda one: self._running[one.caller])  # the first of equals
            self._waiting.remove(first)
            self._enter(first.caller)
            first.granted.set_result(None)

    def _require_room(self, caller: str) -> None:
        if sum(one.caller == caller for one in self._waiting) >= self._bounds.waiting_each:
            raise self._refused(caller, "caller")
        if len(self._waiting) >= self._bounds.waiting:
            raise self._refused(caller, "all")

    def _refused(self, caller: str, bound: str) -> Refused:
        self._metrics.refused.labels(self._work, bound).inc()
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        again = f"retry in {RETRY_AFTER_S} seconds"
        if bound == "caller":
            waiting = sum(one.caller == caller for one in self._waiting)
            detail = (
                f"{self._running[caller]} {self._work} of this key or address are running, of at most "
                f"{self._bounds.each}, and {waiting} are waiting: {again}"
            )
            return Refused(problems.TOO_MANY_REQUESTS, detail, headers=headers)
        detail = f"{self._running.total()} {self._work} are running, of at most {self._bounds.running}"
        return Refused(problems.BUSY, f"{detail}: {again}", headers=headers)

    def _show(self) -> None:
        self._metrics.running.labels(self._work).set(self._running.total())
        self._metrics.waiting.labels(self._work).set(len(self._waiting))


class SlowReads:
    """The connections for long reads."""

    def __init__(self, database: Pool, turns: Turns, deadline_s: float) -> None:
        """`database`: a separate pool with a connection for each place.

        `deadline_s`: seconds that one read may take, of any number of statements.
        """
        self._database = database
        self._turns = turns
        self._deadline_s = deadline_s

    @property
    def deadline_s(self) -> float:
        """Seconds that one read may take."""
        return self._deadline_s

    @asynccontextmanager
    async def connection(self, request: AnyRequest) -> AsyncIterator[Connection]:
        """Yield a connection when it is the caller's turn. Raises Refused and DatabaseError.

        The block is cancelled at the deadline, and QueryCutOff is raised.
        """
        async with (
            self._turns.turn(caller_of(request.scope)),
            self._database.connection() as connection,
            _deadline(self._deadline_s),
        ):
            yield connection


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Cancel the block after some seconds, with its statement, and raise QueryCutOff. The connection stays usable."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise QueryCutOff(f"the statements of the request took longer than {seconds:g} s in all") from None
        raise
