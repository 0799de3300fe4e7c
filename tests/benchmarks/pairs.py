"""Sides in turn, A B A B …: what one machine does at one time is comparable, its seconds are not."""

import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

PAIRS = 5
_Measured = TypeVar("_Measured")


class Ratio(msgspec.Struct, frozen=True):
    """What was measured: `ours` and `peer` in `unit`, pair by pair. `wanted` is the ratio that the design asks for."""

    name: str
    against: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float]
    wanted: str = ""

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.peer, strict=True)]

    def row(self) -> tuple[str, ...]:
        """Name, peer, our median, the peer's, the ratio's median with its spread, and what is wanted of it."""
        ratios = self.ratios
        return (
            self.name,
            self.against,
            f"{rounded(statistics.median(self.ours))} {self.unit}",
            f"{rounded(statistics.median(self.peer))} {self.unit}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            self.wanted,
        )


Finding = Ratio | str
"""A row of the table, or a remark below it."""


def rounded(figure: float) -> str:
    """Three digits, and no exponent."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def target(figure: float) -> list[float]:
    """The design's figure in the place of a peer's."""
    return [figure] * PAIRS


def alternate(*sides: Callable[[], _Measured]) -> list[list[_Measured]]:
    """Five measurements of each side, in turn."""
    rounds = [[side() for side in sides] for _ in range(PAIRS)]
    return [list(measured) for measured in zip(*rounds, strict=True)]


def warmed(*sides: Callable[[], _Measured]) -> list[list[_Measured]]:
    """The same, after one measurement of each that is thrown away."""
    for side in sides:
        side()
    return alternate(*sides)
