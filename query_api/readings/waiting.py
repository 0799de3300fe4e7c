"""Queue of requests whose readings wait to be stored, bounded and fair between callers."""

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from query_api.web.answers import problems
from query_api.web.answers.problems import Refused
from shared.readings.model import Reading
from shared.readings.store import StoredId

MAX_WAITING = 100_000
"""Waiting readings of all callers. Above this, only callers without waiting readings are accepted, up to twice it."""
MAX_WAITING_EACH = 20_000
"""Waiting readings of one caller. A request that exceeds it is refused, unless no other request of the caller waits."""


class Waiting(msgspec.Struct, frozen=True):
    """A request with readings that wait to be stored."""

    readings: Sequence[Reading]
    outcome: "asyncio.Future[Sequence[StoredId] | None]"

    def answer(self, outcome: Sequence[StoredId] | Exception | None) -> None:
        if self.outcome.done():  # the client disconnected
            return
        if isinstance(outcome, Exception):
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(outcome)


class _Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.waiting = Gauge(
            "devicestat_http_readings_waiting", "Readings received over HTTP that wait to be stored.", registry=registry
        )
        self.refused = Counter(
            "devicestat_http_readings_refused", "Requests with readings refused, by the bound: caller or all.",
            ["bound"], registry=registry,
        )  # fmt: skip


class FairQueue:
    """The waiting requests, in turns: one request of each caller after another."""

    def __init__(
        self, registry: CollectorRegistry, *, most: int = MAX_WAITING, most_each: int = MAX_WAITING_EACH
    ) -> None:
        """`most`, `most_each`: bounds in readings."""
        self._metrics = _Metrics(registry)
        self._most = most
        self._most_each = most_each
        self._callers: dict[str, deque[Waiting]] = {}  # in the order of turns
        self._readings: dict[str, int] = {}
        self._something = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of waiting readings."""
        return sum(self._readings.values())

    def put(self, caller: str, waiting: Waiting) -> None:
        """Add a request of the caller. Raises Refused: 429 above the caller's bound, 503 above the bound of all."""
        mine = self._readings.get(caller, 0)
        if mine and mine + len(waiting.readings) > self._most_each:
            self._metrics.refused.labels("caller").inc()
            raise _too_many(mine, self._most_each)
        if len(self) >= (self._most if mine else 2 * self._most):
            self._metrics.refused.labels("all").inc()
            raise unavailable(f"{len(self):,} readings wait to be stored")
        self._callers.setdefault(caller, deque()).append(waiting)
        self._readings[caller] = mine + len(waiting.readings)
        self._metrics.waiting.set(len(self))
        self._something.set()

    async def next(self) -> Waiting:
        """Wait for a request, and remove it."""
        while not self._callers:
            self._something.clear()
            await self._something.wait()
        return self.take()

    def take(self) -> Waiting:
        """Remove the first request of the caller whose turn it is. Raises IndexError if the queue is empty."""
        if not self._callers:
            raise IndexError("the queue is empty")
        caller, requests = next(iter(self._callers.items()))
        waiting = requests.popleft()
        del self._callers[caller]
        self._readings[caller] -= len(waiting.readings)
        if requests:
            self._callers[caller] = requests  # behind all others
        else:
            del self._readings[caller]
        self._metrics.waiting.set(len(self))
        return waiting

    @property
    def is_empty(self) -> bool:
        """Whether the queue is empty."""
        return not self._callers


def _too_many(waiting: int, most: int) -> Refused:
    return Refused(
        problems.TOO_MANY_REQUESTS,
        f"{waiting:,} readings of this key or address wait to be stored, of at most {most:,}: send these again in "
        f"{problems.RETRY_AFTER_S} seconds",
        headers=problems.RETRY_AFTER,
    )


def unavailable(why: str) -> Refused:
    """Return the refusal of readings that the service cannot store now."""
    return Refused(
        problems.UNAVAILABLE,
        f"{why}: send them again in {problems.RETRY_AFTER_S} seconds; those with a timestamp are not stored twice",
        headers=problems.RETRY_AFTER,
    )
