"""Counts for each caller in a window of time that is one for all callers."""

import math
from collections.abc import Callable

MAX_CALLERS = 100_000
"""Counted by themselves in one minute; beyond it those who are new are counted together."""
_OTHERS = "others"


class Window:
    """How many requests each caller has made in the window that runs."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._counts: dict[str, int] = {}
        self._ends = clock() + seconds

    def add(self, caller: str) -> int:
        """Counts a request: how many it makes."""
        if self._clock() >= self._ends:
            self._counts = {}
            self._ends = self._clock() + self._seconds
        if caller not in self._counts and len(self._counts) >= MAX_CALLERS:
            caller = _OTHERS
        count = self._counts[caller] = self._counts.get(caller, 0) + 1
        return count

    def count(self, caller: str) -> int:
        """Return how many requests the caller has made."""
        return 0 if self._clock() >= self._ends else self._counts.get(caller, 0)

    @property
    def ends_in(self) -> int:
        """Whole seconds, until it does."""
        return max(1, math.ceil(self._ends - self._clock()))
