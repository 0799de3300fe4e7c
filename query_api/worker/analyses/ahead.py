"""The number of analyses that a worker claims ahead, so that one claim serves many small analyses."""

AHEAD_S = 0.1
"""Time in which the analyses that are claimed ahead should begin."""
MOST = 64
"""Analyses that are claimed ahead."""
_WEIGHT = 1 / 8
"""Weight of the latest analysis in the mean."""


class Pace:
    """A moving mean of the time that analyses take. It starts with slow ones, so a new worker claims none ahead."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._mean_s = 1.0

    def add(self, seconds: float) -> None:
        """Add the time of an analysis."""
        self._mean_s += _WEIGHT * (seconds - self._mean_s)

    @property
    def ahead(self) -> int:
        """The number of analyses that begin within AHEAD_S, if they take as long as the latest ones."""
        return min(MOST, int(AHEAD_S * self._concurrency / max(self._mean_s, AHEAD_S / MOST)))
