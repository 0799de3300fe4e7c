"""Times of receipt, each given out once: equal readings without a timestamp stay apart (ADR 4).

Whoever gives them out has moments of its own. The even ones are dealt out among the ingestors
(`ingestor.processes.Share`); of the odd ones every second is the API's, and the others are dealt out among the
ingestors that leave.
"""

import time
from collections.abc import Callable

from shared.readings.model import SECOND, Microseconds

SMOOTHED: Microseconds = 10 * SECOND
"""A clock that goes back by as much is waited for. If it goes back further, it was set: the times follow it."""


class Clock:
    """The system's clock, which never gives out a moment twice: of each `step` microseconds the one at `offset`.

    Asked for more than one moment in each step, it runs ahead of the system's.
    """

    def __init__(self, step: Microseconds, offset: Microseconds, now: Callable[[], int] = time.time_ns) -> None:
        self.step = step
        self._offset = offset
        self._now = now
        self._latest: Microseconds = 0
        self._free: Microseconds = 0

    def read(self) -> Microseconds:
        """Takes the first of its moments that is not past and not taken."""
        now = self._now() // 1000
        if now < self._latest - SMOOTHED:
            self._free = 0
        self._latest = now
        first = self._free if now < self._free else now + (self._offset - now) % self.step
        self._free = first + self.step
        return first

    def take(self, first: Microseconds, count: int) -> None:
        """Takes `count` of its moments from `first`, which was the last to be read."""
        self._free = first + count * self.step
