"""Explain a path or query parameter that Litestar could not convert."""

from types import NoneType
from typing import Literal, get_args, get_origin

from litestar.params import ParameterKwarg

from query_api.errors import Fault, displayed
from query_api.web.answers.problems import AnyRequest


def parameter_fault(request: AnyRequest, name: str, otherwise: str) -> Fault:
    """Return the fault of the parameter. `otherwise`: the message for a type that has none here."""
    field = request.route_handler.parsed_fn_signature.parameters.get(name)
    given = request.path_params.get(name, request.query_params.get(name))
    if field is None or given is None:
        return Fault(name, otherwise)
    takes = _takes(field.annotation, field.kwarg_definition)
    return Fault(name, f"expected {takes}, got {displayed(given)}" if takes else otherwise)


_NUMBERS: dict[object, str] = {int: "a whole number", float: "a number"}


def _without_none(annotation: object) -> object:
    """Return T for T | None."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 else annotation


def _takes(annotation: object, declared: object) -> str | None:
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    bounds = declared if isinstance(declared, ParameterKwarg) else ParameterKwarg()
    if (number := _NUMBERS.get(_without_none(annotation))) is not None:
        return number if bounds.ge is None else f"{number} from {bounds.ge:g} to {bounds.le:g}"
    if bounds.max_length is not None:
        return f"at most {bounds.max_length} characters"
    return None
