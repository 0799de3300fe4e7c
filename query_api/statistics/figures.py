"""The figures of an axis: the five that every analysis has, and those that it has on request."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

MAX_PERCENTILES = 20
"""Of one analysis."""
PERCENTILE_PATTERN = r"p([0-9]{1,2}(\.[0-9]{1,6})?|100(\.0{1,6})?)"
_is_percentile = re.compile(PERCENTILE_PATTERN, re.ASCII).fullmatch
MEAN, STDDEV = "mean", "stddev"


class Figures(msgspec.Struct, frozen=True):
    """Of one axis over a period. No readings: count 0, sum 0, the others null."""

    min: Annotated[float | None, msgspec.Meta(description="The least of the values.", examples=[-2.5])]
    max: Annotated[float | None, msgspec.Meta(description="The greatest of the values.", examples=[4.0])]
    sum: Annotated[
        float, msgspec.Meta(description="The sum of the values, without any loss of digits.", examples=[12.0])
    ]
    count: Annotated[int, msgspec.Meta(description="How many values there are.", examples=[8])]
    median: Annotated[
        float | None,
        msgspec.Meta(
            description="The middle value; of an even count the mean of the two in the middle.", examples=[1.5]
        ),
    ]
    mean: Annotated[
        float | UnsetType | None,
        msgspec.Meta(description="The sum over the count. Only if it was asked for.", examples=[1.5]),
    ] = UNSET
    stddev: Annotated[
        float | UnsetType | None,
        msgspec.Meta(
            description="The standard deviation of the values as a sample (over the count less one); null below two "
            "values. Only if it was asked for.",
            examples=[0.75],
        ),
    ] = UNSET
    percentiles: Annotated[
        dict[str, float | None] | UnsetType,
        msgspec.Meta(
            description="Each percentile that was asked for, by its name: between two values it is interpolated "
            "linearly. Only if one was asked for.",
            examples=[{"p95": 3.5, "p99.9": 3.98}],
        ),
    ] = UNSET


class FigureNames(msgspec.Struct, frozen=True):
    """What is asked for besides the five, in one order and without duplicates, so that equal wishes are equal.

    percentiles: their names, such as "p99.9", rising.
    """

    mean: bool = False
    stddev: bool = False
    percentiles: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str]) -> "FigureNames":
        """From the names, as `names` has them or as a person writes them. Raises ValueError for one that is none."""
        asked = set(names)
        percentiles = {_percentile(name) for name in asked - {MEAN, STDDEV}}
        if len(percentiles) > MAX_PERCENTILES:
            raise ValueError(f"expected at most {MAX_PERCENTILES} percentiles, got {len(percentiles)}")
        return cls(MEAN in asked, STDDEV in asked, tuple(f"p{rank:f}" for rank in sorted(percentiles)))

    @property
    def names(self) -> list[str]:
        """Their names in order: what the database keeps with a queued analysis."""
        moments = [name for name, asked in ((MEAN, self.mean), (STDDEV, self.stddev)) if asked]
        return [*moments, *self.percentiles]

    @property
    def fractions(self) -> list[float]:
        """The percentiles as fractions of 1."""
        return [float(Decimal(name[1:]) / 100) for name in self.percentiles]


FIVE = FigureNames()
"""Nothing besides the five."""


def _percentile(name: str) -> Decimal:
    """The percentile's rank, 0 to 100, without needless zeros."""
    if not _is_percentile(name):
        raise UnknownFigure(name)
    rank = Decimal(name[1:])
    return rank.to_integral_value() if rank == rank.to_integral_value() else rank.normalize()


class UnknownFigure(ValueError):
    """The name is no figure's."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no figure is named {name!r}")
