"""The figures of an axis: the name of each, what it needs, and how its value follows (ADR 41).

`Figures` is the table. A field without a default is a figure that every analysis has. A field with a default is a
figure on request: its name joins the names that a request may give, the OpenAPI document and the problem texts.

**Sums.** Sum, mean, variance and standard deviation follow from the exact sums of values and of squares, and are
rounded once (`query_api/statistics/blocks/exact.py`). The order of the readings cannot change them.

**Order statistics.** Least and greatest value, median and percentiles are values, or lie between two. The median of an
even count is (a + b) / 2, which is rounded once. Percentiles are a + w (b - a), as percentile_cont has them. The median
absolute deviation is the median of |x - median|, where each difference is rounded once.

**Measurements.** The first and the last are those of the readings with the least and the greatest (time, x, y, z).

Zero has no sign.
"""

import math
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from query_api.statistics.blocks import exact
from query_api.statistics.blocks.reading.statistics import MEDIAN, AxisStatistics, Needs
from query_api.statistics.blocks.selection.deviations import middle
from shared.readings.model import to_datetime

MAX_PERCENTILES = 20
"""Of one analysis."""
PERCENTILE_PATTERN = r"p([0-9]{1,2}(\.[0-9]{1,6})?|100(\.0{1,6})?)"
_is_percentile = re.compile(PERCENTILE_PATTERN, re.ASCII).fullmatch
_QUARTERS = (0.25, 0.75)
_SQUARES, _ENDS = Needs(squares=True), Needs(ends=True)


class Measurement(msgspec.Struct, frozen=True):
    """A value of an axis, and the time of its reading."""

    timestamp: Annotated[datetime, msgspec.Meta(description="The time of the reading, in UTC.")]
    value: Annotated[float, msgspec.Meta(description="The value.", examples=[1.5])]


def _median(found: AxisStatistics) -> float:
    return middle(*found.pairs[MEDIAN])


def _median_deviation(found: AxisStatistics) -> float:
    assert found.deviations is not None, "the figure says that it needs them"
    return middle(*found.deviations)


def _end(number: int) -> Callable[[AxisStatistics], Measurement]:
    def read(found: AxisStatistics) -> Measurement:
        assert found.ends is not None, "the figure says that it needs them"
        return Measurement(to_datetime(found.ends[number].time), found.ends[number].value)

    return read


def _mean(found: AxisStatistics) -> float:
    return exact.mean(found.count, found.total)


def _range(found: AxisStatistics) -> float:
    return found.greatest - found.least


def _quartile_range(found: AxisStatistics) -> float:
    lower, upper = (_between(found, fraction) for fraction in _QUARTERS)
    return upper - lower


def _between(found: AxisStatistics, fraction: float) -> float:
    """Interpolate linearly between the two values around the rank."""
    lower, upper = found.pairs[fraction]
    place = fraction * (found.count - 1)
    return lower + (place - math.floor(place)) * (upper - lower) + 0.0


_Spread = Callable[[int, Decimal, Decimal], float]


def _spread(of: _Spread) -> Callable[[AxisStatistics], float | None]:
    def read(found: AxisStatistics) -> float | None:
        assert found.squares is not None, "the figure says that it needs them"
        return of(found.count, found.total, found.squares) if found.count > 1 else None

    return read


def _figure(
    read: Callable[[AxisStatistics], Any],
    description: str,
    example: object,
    *,
    needs: Needs = Needs(),  # noqa: B008  # it is frozen
    without: object = None,
) -> msgspec.Meta:
    """Describe a figure, which `read` returns.

    `needs`: what it is computed from. `without`: the figure of no readings.
    """
    return msgspec.Meta(
        description=description, examples=[example], extra={"read": read, "needs": needs, "without": without}
    )


class Figures(msgspec.Struct, frozen=True):
    """The figures of one axis over a period. Without readings the count and the sum are 0, and the others are null."""

    min: Annotated[float | None, _figure(lambda found: found.least, "The minimum.", -2.5)]
    max: Annotated[float | None, _figure(lambda found: found.greatest, "The maximum.", 4.0)]
    sum: Annotated[
        float, _figure(lambda found: exact.rounded(found.total), "The exact sum, rounded once.", 12.0, without=0.0)
    ]
    count: Annotated[int, _figure(lambda found: found.count, "The number of values.", 8, without=0)]
    median: Annotated[
        float | None,
        _figure(
            _median,
            "The median. For an even count it is the mean of the two middle values.",
            1.5,
            needs=Needs((MEDIAN,)),
        ),
    ]
    mean: Annotated[
        float | UnsetType | None, _figure(_mean, "The exact mean, rounded once. Present on request.", 1.5)
    ] = UNSET
    stddev: Annotated[
        float | UnsetType | None,
        _figure(
            _spread(exact.stddev),
            "The sample standard deviation, rounded once; null for fewer than two values. Present on request.",
            0.75,
            needs=_SQUARES,
        ),
    ] = UNSET
    variance: Annotated[
        float | UnsetType | None,
        _figure(
            _spread(exact.variance),
            "The sample variance, rounded once; null for fewer than two values. Present on request.",
            0.5625,
            needs=_SQUARES,
        ),
    ] = UNSET
    range: Annotated[
        float | UnsetType | None,
        _figure(_range, "The greatest value minus the least. Present on request.", 6.5),
    ] = UNSET
    iqr: Annotated[
        float | UnsetType | None,
        _figure(
            _quartile_range,
            "The interquartile range: percentile 75 minus percentile 25. Present on request.",
            2.25,
            needs=Needs(_QUARTERS),
        ),
    ] = UNSET
    mad: Annotated[
        float | UnsetType | None,
        _figure(
            _median_deviation,
            "The median absolute deviation: the median of |value - median|, without a factor. Present on request.",
            1.25,
            needs=Needs((MEDIAN,), deviations=True),
        ),
    ] = UNSET
    first: Annotated[
        Measurement | UnsetType | None,
        _figure(
            _end(0),
            "The value of the earliest reading, with its time. Of several readings at that time it is the first in the "
            "order of x, y and z. Present on request.",
            {"timestamp": "2026-01-31T12:00:00.000000Z", "value": 1.5},
            needs=_ENDS,
        ),
    ] = UNSET
    last: Annotated[
        Measurement | UnsetType | None,
        _figure(
            _end(1),
            "The value of the latest reading, with its time. Of several readings at that time it is the last in the "
            "order of x, y and z. Present on request.",
            {"timestamp": "2026-01-31T13:00:00.000000Z", "value": 2.5},
            needs=_ENDS,
        ),
    ] = UNSET
    percentiles: Annotated[
        dict[str, float | None] | UnsetType,
        _figure(
            lambda found: found,
            "Each requested percentile by its name, interpolated linearly between values. Present on request.",
            {"p95": 3.5, "p99.9": 3.98},
        ),
    ] = UNSET


_TABLE = {name: hint.__metadata__[0].extra for name, hint in get_type_hints(Figures, include_extras=True).items()}
_ALWAYS = tuple(field.name for field in msgspec.structs.fields(Figures) if field.required)
_PERCENTILES = "percentiles"
ON_REQUEST = tuple(name for name in _TABLE if name not in {*_ALWAYS, _PERCENTILES})
"""The names of the figures that an analysis has on request, besides percentiles."""


class FigureNames(msgspec.Struct, frozen=True):
    """The figures on request of an analysis, in a fixed order and without duplicates: equal requests are equal.

    single: names of ON_REQUEST. percentiles: names such as "p99.9", in ascending order.
    """

    single: tuple[str, ...] = ()
    percentiles: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str]) -> "FigureNames":
        """Parse names, from `names` or from a request. Raises ValueError for a name that is not a figure's."""
        asked = set(names)
        percentiles = {_percentile(name) for name in asked.difference(ON_REQUEST)}
        if len(percentiles) > MAX_PERCENTILES:
            raise ValueError(f"expected at most {MAX_PERCENTILES} percentiles, got {len(percentiles)}")
        single = tuple(name for name in ON_REQUEST if name in asked)
        return cls(single, tuple(f"p{rank:f}" for rank in sorted(percentiles)))

    @property
    def names(self) -> list[str]:
        """The names in order, as the database stores them with a queued analysis."""
        return [*self.single, *self.percentiles]

    @property
    def fractions(self) -> list[float]:
        """The percentiles as fractions of 1."""
        return [float(Decimal(name[1:]) / 100) for name in self.percentiles]

    @property
    def needs(self) -> Needs:
        """What the figures are computed from."""
        return reduce(or_, (_TABLE[name]["needs"] for name in self.fields), Needs(tuple(self.fractions)))

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of Figures that the analysis has."""
        return (*_ALWAYS, *self.single, *([_PERCENTILES] if self.percentiles else ()))


FIVE = FigureNames()
"""The five figures of every analysis, and none on request."""


def read_figures(wanted: FigureNames, found: AxisStatistics | None) -> Figures:
    """Return the figures of an axis. `found`: None if there are no readings."""
    values = {name: _TABLE[name]["without" if found is None else "read"] for name in wanted.fields}
    if found is not None:
        values = {name: read(found) for name, read in values.items()}
    if wanted.percentiles:
        values[_PERCENTILES] = {
            name: None if found is None else _between(found, fraction)
            for name, fraction in zip(wanted.percentiles, wanted.fractions, strict=True)
        }
    return Figures(**values)


def _percentile(name: str) -> Decimal:
    """Return the rank of the percentile, 0 to 100, without trailing zeros."""
    if not _is_percentile(name):
        raise UnknownFigure(name)
    rank = Decimal(name[1:])
    return rank.to_integral_value() if rank == rank.to_integral_value() else rank.normalize()


class UnknownFigure(ValueError):
    """No figure has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no figure is named {name!r}")
