"""Rates and increases over the last minute, of counts that only grow."""

import time
from collections import deque
from collections.abc import Callable, Mapping

from shared.status.samples import quantile

SPAN_S = 60.0


class Window:
    """The counts at the reports of the last minute, by name. At the start of the process all are 0."""

    def __init__(self, span_s: float = SPAN_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._span_s = span_s
        self._clock = clock
        self._kept: deque[tuple[float, Mapping[str, float]]] = deque([(clock(), {})])

    def add(self, counts: Mapping[str, float]) -> None:
        """Add the present counts. Of those older than the span, the newest is kept."""
        now = self._clock()
        self._kept.append((now, counts))
        while len(self._kept) > 2 and self._kept[1][0] <= now - self._span_s:
            self._kept.popleft()

    def increase(self, name: str) -> float:
        """Return by how much the count has grown in the last minute."""
        return self._kept[-1][1].get(name, 0.0) - self._kept[0][1].get(name, 0.0)

    def rate(self, name: str) -> float:
        """Return the increase per second; 0 before any time has passed."""
        seconds = self._kept[-1][0] - self._kept[0][0]
        return self.increase(name) / seconds if seconds > 0 else 0.0

    def increases(self, prefix: str) -> dict[str, int]:
        """Return the increases of the counts with this prefix that are not 0, by the rest of their names."""
        names = (name for name in self._kept[-1][1] if name.startswith(prefix))
        return {name.removeprefix(prefix): round(grown) for name in names if (grown := self.increase(name)) > 0}

    def quantile(self, prefix: str, share: float) -> float | None:
        """Estimate a quantile of a histogram of which the counts are added under this prefix and the bounds."""
        names = (name for name in self._kept[-1][1] if name.startswith(prefix))
        return quantile({float(name.removeprefix(prefix)): self.increase(name) for name in names}, share)
