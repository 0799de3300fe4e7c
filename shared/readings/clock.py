"""Unique times of receipt, so that equal readings without a timestamp stay distinct (ADR 4).

Each process uses different microseconds. The even ones are divided among the ingestors (`Share` of
`ingestor.session.processes`). Every second odd one is for the API, and
the others are divided among the ingestors that drain sessions.
"""

import time
from collections.abc import Callable

from shared.readings.model import SECOND, Microseconds

SMOOTHED: Microseconds = 10 * SECOND
"""If the clock is set back by at most this, times continue from the latest one. If by more, they follow the clock."""


class Clock:
    """A clock that returns each time once: of each `step` microseconds the one at `offset`.

    If more than one time per step is taken, it runs ahead of the system clock.
    """

    def __init__(self, step: Microseconds, offset: Microseconds, now: Callable[[], int] = time.time_ns) -> None:
        self.step = step
        self._offset = offset
        self._now = now
        self._latest: Microseconds = 0
        self._free: Microseconds = 0

    def read(self) -> Microseconds:
        """Take the first time that is neither past nor taken."""
        now = self._now() // 1000
        if now < self._latest - SMOOTHED:
            self._free = 0
        self._latest = now
        first = self._free if now < self._free else now + (self._offset - now) % self.step
        self._free = first + self.step
        return first

    def take(self, first: Microseconds, count: int) -> None:
        """Take `count` times from `first`, the latest result of `read`."""
        self._free = first + count * self.step
