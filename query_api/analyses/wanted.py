"""The parameter `figures`: the figures on request, besides min, max, sum, count and median."""

from collections.abc import Iterable, Sequence
from typing import Annotated

from litestar.openapi.spec import OpenAPIType, Schema
from litestar.params import QueryParameter

from query_api.errors import Fault, displayed
from query_api.statistics.figures import ON_REQUEST, PERCENTILE_PATTERN, FigureNames, UnknownFigure
from query_api.web.answers.problems import invalid

MAX_NAMES = 20
"""In one request."""
RULE = f"{', '.join(ON_REQUEST)} or a percentile from p0 to p100 with up to 6 decimals, such as p95 or p99.9"
NAME_PATTERN = f"^({'|'.join(ON_REQUEST)}|{PERCENTILE_PATTERN})$"
_ALWAYS = "; min, max, sum, count and median are always present"

_FIGURES = QueryParameter(
    description=f"Figures besides min, max, sum, count and median: each is {RULE}. Separate several by commas, or "
    f"repeat the parameter; at most {MAX_NAMES}.",
    schema_extra={
        "one_of": None,
        "type": OpenAPIType.ARRAY,
        "max_items": MAX_NAMES,
        "items": Schema(type=OpenAPIType.STRING, pattern=NAME_PATTERN, examples=["mean", "p99.9"]),
    },
)


def provide_wanted(figures: Annotated[list[str] | None, _FIGURES] = None) -> FigureNames:
    """Return the figures that the query names. Raises Refused for an unknown name."""
    return parse([name.strip() for given in figures or () for name in given.split(",")])


def parse(names: Sequence[str], field: str = "figures") -> FigureNames:
    """Return the figures of these names. Raises Refused with each unknown name. `field`: the field with the names."""
    if len(names) > MAX_NAMES:
        raise invalid(Fault(field, f"expected at most {MAX_NAMES} names, got {len(names)}"))
    if faults := list(_faults(names, field)):
        raise invalid(*faults)
    return FigureNames.of(names)


def _faults(names: Iterable[str], field: str) -> Iterable[Fault]:
    for name in names:
        try:
            FigureNames.of([name])
        except UnknownFigure:
            yield Fault(field, f"expected {RULE}, got {displayed(name)}{_ALWAYS}")
