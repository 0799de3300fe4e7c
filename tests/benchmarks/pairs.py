"""Two commands in turn, A B A B …: what one machine does at one time is comparable, its seconds are not."""

import statistics
from collections.abc import Callable, Sequence

import msgspec

PAIRS = 5


class Ratio(msgspec.Struct, frozen=True):
    """What was measured: `ours` and `peer` in `unit`, pair by pair."""

    name: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.peer, strict=True)]

    def row(self) -> tuple[str, str, str, str]:
        """Name, our median, the peer's, and the ratio's median with its spread."""
        ratios = self.ratios
        return (
            self.name,
            f"{statistics.median(self.ours):,.4g} {self.unit}",
            f"{statistics.median(self.peer):,.4g} {self.unit}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )


def alternate(ours: Callable[[], float], peer: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Five measurements of each, in turn, after one of each that is thrown away."""
    ours(), peer()
    pairs = [(ours(), peer()) for _ in range(PAIRS)]
    return [a for a, _ in pairs], [b for _, b in pairs]
