"""Times of receipt, each later than the last: equal readings without a timestamp stay apart (ADR 4)."""

import time
from collections.abc import Callable

from shared.models import SECOND, Microseconds

MAX_LEAD: Microseconds = 10 * SECOND
"""So far the times given out may be ahead of the clock. If it is further behind, it was set back: they follow it."""


class Clock:
    """The system's clock, which never gives out a moment twice."""

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._free: Microseconds = 0

    def read(self) -> Microseconds:
        """The time, or the first moment after it that is not taken."""
        now = self._now() // 1000
        return self._free if now < self._free <= now + MAX_LEAD else now

    def take(self, first: Microseconds, count: int) -> None:
        """Takes `count` moments from `first`, which was read."""
        self._free = first + count
