"""The parameter `device_id` of requests for several devices."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema
from litestar.params import QueryParameter

from query_api.errors import Fault, displayed
from query_api.web.answers.problems import invalid

_EXAMPLE = "one per parameter, such as device_id=1&device_id=2"


@dataclass
class SeveralOperation(Operation):
    """Documents device_id as required. The handler checks it, so that the error can say what is expected."""

    def __post_init__(self) -> None:
        for parameter in self.parameters or ():
            if isinstance(parameter, Parameter) and parameter.name == "device_id":
                parameter.required = True


def several(most: int) -> QueryParameter:
    """Return the declaration of a parameter with 1 to `most` devices."""
    return QueryParameter(
        description=f"The devices: {_rule(most)}.",
        schema_extra={
            "one_of": None,
            "type": OpenAPIType.ARRAY,
            "min_items": 1,
            "max_items": most,
            "items": Schema(type=OpenAPIType.INTEGER, examples=[1]),
        },
    )


def _rule(most: int) -> str:
    return f"1 to {most:,} device ids, {_EXAMPLE}"


def parse_ids(given: Sequence[str] | None, most: int) -> list[int]:
    """Return the distinct device ids. Raises Refused for a text that is not a number, for no ids, and for too many."""
    if not given:
        raise invalid(Fault("device_id", f"is missing: expected {_rule(most)}"))
    if len(given) > most:
        raise invalid(Fault("device_id", f"expected {_rule(most)}, got {len(given):,}"))
    ids: dict[int, None] = {}
    faults: list[Fault] = []
    for text in given:
        try:
            ids[msgspec.convert(text, int, strict=False)] = None
        except msgspec.ValidationError:
            faults.append(Fault("device_id", f"expected a whole number, got {displayed(text)}"))
    if faults:
        raise invalid(*faults)
    return list(ids)
