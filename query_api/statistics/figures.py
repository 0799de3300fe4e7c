"""The figures of an axis: the name of each, its SQL, and how its value is read.

`Figures` is the table. A field without a default is a figure that every analysis has. A field with a default is a
figure on request: its name joins the names that a request may give, the OpenAPI document and the problem texts.

**Sum.** A plain sum(float8) loses digits where positive and negative values cancel, and depends on the order of the
rows. Each value is split, exactly, into a multiple of 2^-10 and a remainder below 2^-11. The multiples add up without
any rounding (up to 2^33 values at the axis limit). The rounding of the remainders loses less than 2^-53 of their sum.

**Median.** percentile_cont interpolates with a + 0.5 * (b - a), which rounds twice. The median of an even count is
(a + b) / 2, which rounds once. percentile_disc with an array sorts once and returns both middle values: the lower one
at 0.5, and the upper one just above it. For an odd count they are equal.

**Mean, standard deviation, percentiles.** The mean is the sum over the count. stddev_samp uses the method of Youngs and
Cramer, which is stable where the values lie close together and far from 0. percentile_cont shares the median's sort.
Python divides, because PostgreSQL raises an error where a quotient underflows.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import repeat
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

MAX_PERCENTILES = 20
"""Of one analysis."""
PERCENTILE_PATTERN = r"p([0-9]{1,2}(\.[0-9]{1,6})?|100(\.0{1,6})?)"
_is_percentile = re.compile(PERCENTILE_PATTERN, re.ASCII).fullmatch
_SUM = "sum(round({axis} * 1024)) / 1024 + sum({axis} - round({axis} * 1024) / 1024)"
_MIDDLE = "percentile_disc(ARRAY[0.5, 0.5000000001]) WITHIN GROUP (ORDER BY {axis})"


def _unchanged(value: Any) -> Any:
    return value


def _middle(pair: Sequence[float] | None) -> float | None:
    return (pair[0] + pair[1]) / 2 if pair else None


def _quotient(pair: Sequence[float] | None) -> float | None:
    """The first number over the second; None where there are no values."""
    return pair[0] / pair[1] if pair and pair[1] else None


def _figure(sql: str, description: str, example: object, read: Callable[[Any], Any] = _unchanged) -> msgspec.Meta:
    """`sql`: an aggregate expression over {axis}. `read`: makes its value, or NULL, the figure."""
    return msgspec.Meta(description=description, examples=[example], extra={"sql": sql, "read": read})


class Figures(msgspec.Struct, frozen=True):
    """The figures of one axis over a period. Without readings the count and the sum are 0, and the others are null."""

    min: Annotated[float | None, _figure("min({axis})", "The minimum.", -2.5)]
    max: Annotated[float | None, _figure("max({axis})", "The maximum.", 4.0)]
    sum: Annotated[float, _figure(_SUM, "The sum of the values, exact.", 12.0, lambda total: total or 0.0)]
    count: Annotated[int, _figure("count(*)", "The number of values.", 8, lambda count: count or 0)]
    median: Annotated[
        float | None,
        _figure(_MIDDLE, "The median. For an even count it is the mean of the two middle values.", 1.5, _middle),
    ]
    mean: Annotated[
        float | UnsetType | None,
        _figure(f"ARRAY[{_SUM}, count(*)]", "The mean. Present on request.", 1.5, _quotient),
    ] = UNSET
    stddev: Annotated[
        float | UnsetType | None,
        _figure(
            "stddev_samp({axis})",
            "The sample standard deviation; null for fewer than two values. Present on request.",
            0.75,
        ),
    ] = UNSET
    percentiles: Annotated[
        dict[str, float | None] | UnsetType,
        _figure(
            "percentile_cont(%(fractions)s::float8[]) WITHIN GROUP (ORDER BY {axis})",
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
    def fields(self) -> tuple[str, ...]:
        """The fields of Figures that the analysis has."""
        return (*_ALWAYS, *self.single, *([_PERCENTILES] if self.percentiles else ()))


FIVE = FigureNames()
"""The five figures of every analysis, and none on request."""


def columns(fields: Sequence[str]) -> str:
    """Return the SQL of the three axes' figures; `read_axes` reads its columns. Its parameter: fractions."""
    return ", ".join(_TABLE[name]["sql"].format(axis=axis) for axis in "xyz" for name in fields)


def read_axes(wanted: FigureNames, values: Sequence[Any]) -> tuple[Figures, Figures, Figures]:
    """Return the figures of x, y and z, from the values of `columns`."""
    width = len(wanted.fields)
    x, y, z = (_read(wanted, values[at : at + width]) for at in range(0, 3 * width, width))
    return x, y, z


def _read(wanted: FigureNames, values: Sequence[Any]) -> Figures:
    found = {name: _TABLE[name]["read"](value) for name, value in zip(wanted.fields, values, strict=True)}
    if wanted.percentiles:
        found[_PERCENTILES] = dict(zip(wanted.percentiles, found[_PERCENTILES] or repeat(None), strict=False))
    return Figures(**found)


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
