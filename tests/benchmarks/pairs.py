"""Measurements of two sides in turn, A B A B …, because only figures of the same machine and time are comparable."""

import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

PAIRS = 5
_Measured = TypeVar("_Measured")


class Ratio(msgspec.Struct, frozen=True):
    """Measurements of `ours` and `peer` in `unit`, in pairs. `wanted`: the target for the ratio."""

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
        """Return name, peer, both medians, the median of the ratio with its spread, and the target."""
        ratios = self.ratios
        return (
            self.name,
            self.against,
            f"{rounded(statistics.median(self.ours))} {self.unit}",
            f"{rounded(statistics.median(self.peer))} {self.unit}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            self.wanted,
        )


class Grid(msgspec.Struct, frozen=True):
    """A table of its own."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


Finding = Ratio | Grid | str
"""A row of the table, a table below it, or a remark."""


def rounded(figure: float) -> str:
    """Format with three digits, without exponent."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def target(figure: float) -> list[float]:
    """Return a target in place of a peer's figures."""
    return [figure] * PAIRS


def alternate(*sides: Callable[[], _Measured]) -> list[list[_Measured]]:
    """Measure each side five times, in turn."""
    rounds = [[side() for side in sides] for _ in range(PAIRS)]
    return [list(measured) for measured in zip(*rounds, strict=True)]


def warmed(*sides: Callable[[], _Measured]) -> list[list[_Measured]]:
    """Measure each side once without recording, then five times in turn."""
    for side in sides:
        side()
    return alternate(*sides)
