"""Count per caller in a time window shared by all callers."""

import math
from collections.abc import Callable

MAX_CALLERS = 100_000
"""Callers counted separately in one window. Further callers are counted together."""
_OTHERS = "others"


class Window:
    """The number of requests of each caller in the current window."""

    def __init__(self, seconds: float, clock: Callable[[], float], max_callers: int = MAX_CALLERS) -> None:
        self._seconds = seconds
        self._clock = clock
        self._max_callers = max_callers
        self._counts: dict[str, int] = {}
        self._ends = clock() + seconds

    def add(self, caller: str) -> int:
        """Count a request, and return the caller's count."""
        if self._clock() >= self._ends:
            self._counts = {}
            self._ends = self._clock() + self._seconds
        if caller not in self._counts and len(self._counts) >= self._max_callers:
            caller = _OTHERS
        count = self._counts[caller] = self._counts.get(caller, 0) + 1
        return count

    def take_back(self, caller: str) -> None:
        """Do not count a request of the caller that was counted."""
        if self.count(caller) > 0:
            self._counts[caller] -= 1

    def count(self, caller: str) -> int:
        """Return the caller's count."""
        return 0 if self._clock() >= self._ends else self._counts.get(caller, 0)

    @property
    def ends_in(self) -> int:
        """Seconds until the window ends, rounded up."""
        return max(1, math.ceil(self._ends - self._clock()))
