"""Queue of requests whose readings wait to be stored, bounded and fair between callers.

A request is refused at once, with the time after which there is room again, if it would wait too long. A caller without
waiting readings is admitted in any case, up to twice the bound of all.
"""

import asyncio
import math
from collections import deque

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from query_api.web.answers import problems
from query_api.web.answers.problems import Refused
from shared.readings.rows import Rows
from shared.readings.store import StoredIds


class WaitingBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the waiting readings, of 48 bytes each."""

    most: int = 1_000_000
    """Of all callers. Above this, only callers without waiting readings are accepted, up to twice it."""
    most_each: int = 500_000
    """Of one caller. A request that exceeds it is refused, unless no other request of the caller waits."""
    longest_wait_s: float = 6.0
    """Expected time until the waiting readings are stored. It is shorter than the longest wait of a request."""


WAITING = WaitingBounds()
ASSUMED_RATE = 60_000.0
"""Readings a second that are expected to be stored, until it is measured."""
FEWEST_MEASURED = 1_000
"""Readings of one statement that tell how many a second can be stored."""
_WEIGHT = 0.3
"""Of the latest statement in the mean."""
LONGEST_RETRY_AFTER_S = 30


class Waiting(msgspec.Struct, frozen=True):
    """A request with readings that wait to be stored."""

    caller: str
    readings: Rows
    outcome: "asyncio.Future[StoredIds | None]"

    def answer(self, outcome: StoredIds | Exception | None) -> None:
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

    def __init__(self, registry: CollectorRegistry, bounds: WaitingBounds = WAITING) -> None:
        self._metrics = _Metrics(registry)
        self._bounds = bounds
        self._rate = ASSUMED_RATE
        self._callers: dict[str, deque[Waiting]] = {}  # in the order of turns
        self._readings: dict[str, int] = {}
        self._something = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of waiting readings."""
        return sum(self._readings.values())

    def put(self, waiting: Waiting) -> None:
        """Add a request. Raises Refused: 429 above the caller's bound, 503 above the bound of all."""
        caller, mine = waiting.caller, self._readings.get(waiting.caller, 0)
        self._require_room(mine, len(waiting.readings))
        self._callers.setdefault(caller, deque()).append(waiting)
        self._readings[caller] = mine + len(waiting.readings)
        self._metrics.waiting.set(len(self))
        self._something.set()

    def _require_room(self, mine: int, count: int) -> None:
        if mine and mine + count > self._bounds.most_each:
            self._metrics.refused.labels("caller").inc()
            raise self._too_many(mine)
        takes_too_long = mine and (len(self) + count) / self._rate > self._bounds.longest_wait_s
        if takes_too_long or len(self) >= (self._bounds.most if mine else 2 * self._bounds.most):
            self._metrics.refused.labels("all").inc()
            raise unavailable(f"{len(self):,} readings wait to be stored", self._retry_after_s())

    def _too_many(self, mine: int) -> Refused:
        after_s = self._retry_after_s()
        return Refused(
            problems.TOO_MANY_REQUESTS,
            f"{mine:,} readings of this key or address wait to be stored, of at most {self._bounds.most_each:,}: send "
            f"these again in {after_s} seconds",
            headers={"Retry-After": str(after_s)},
        )

    def _retry_after_s(self) -> int:
        """Return the time in which half of the waiting readings are stored."""
        return min(max(1, math.ceil(len(self) / self._rate / 2)), LONGEST_RETRY_AFTER_S)

    def measured(self, readings: int, per_s: float) -> None:
        """Record a statement that stored this number of readings. `per_s`: readings a second."""
        if readings >= FEWEST_MEASURED:
            self._rate += _WEIGHT * (per_s - self._rate)

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
        self._callers[caller] = requests  # behind all others
        self._removed(waiting)
        return waiting

    def remove(self, waiting: Waiting) -> bool:
        """Remove the request. Return False if it was taken."""
        requests = self._callers.get(waiting.caller, ())
        if not any(one is waiting for one in requests):
            return False
        self._callers[waiting.caller] = deque(one for one in requests if one is not waiting)
        self._removed(waiting)
        return True

    def _removed(self, waiting: Waiting) -> None:
        caller = waiting.caller
        self._readings[caller] -= len(waiting.readings)
        if not self._callers[caller]:
            del self._callers[caller], self._readings[caller]
        self._metrics.waiting.set(len(self))

    @property
    def is_empty(self) -> bool:
        """Whether the queue is empty."""
        return not self._callers


def unavailable(why: str, after_s: int = problems.RETRY_AFTER_S) -> Refused:
    """Return the refusal of readings that the service cannot store now. `after_s`: when it can."""
    return Refused(
        problems.UNAVAILABLE,
        f"{why}: send them again in {after_s} seconds; those with a timestamp are not stored twice",
        headers={"Retry-After": str(after_s)},
    )
