"""Explain a path or query parameter that Litestar could not convert."""

from collections.abc import Sequence
from enum import Enum
from inspect import isclass
from types import NoneType
from typing import Literal, get_args, get_origin

from litestar.params import ParameterKwarg

from query_api.errors import Fault, displayed
from query_api.web.answers.problems import AnyRequest


def parameter_fault(request: AnyRequest, name: str, otherwise: str) -> Fault:
    """Return the fault of the parameter. `otherwise`: the message for a type that has none here."""
    field = request.route_handler.parsed_fn_signature.parameters.get(name)
    if field is None:
        return Fault(name, otherwise)
    shown = getattr(field.kwarg_definition, "query", None) or getattr(field.kwarg_definition, "name", None) or name
    given = [request.path_params[shown]] if shown in request.path_params else request.query_params.getall(shown, [])
    takes = _takes(field.annotation, field.kwarg_definition)
    if not given or not takes:
        return Fault(shown, otherwise)
    return Fault(shown, f"expected {takes}, got {displayed(_wrong_one(given, field.annotation))}")


_NUMBERS: dict[object, str] = {int: "a whole number", float: "a number"}


def _without_none(annotation: object) -> object:
    """Return T for T | None."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 and get_origin(annotation) is not list else annotation


def _choices(annotation: object) -> list[str]:
    """Return the texts of an enumeration, of a list of it too; none for another type."""
    kind = _without_none(annotation)
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    return [str(choice.value) for choice in kind] if isclass(kind) and issubclass(kind, Enum) else []


def _wrong_one(given: Sequence[str], annotation: object) -> str:
    """Return the value that is wrong, of several: the first one that is no choice."""
    choices = _choices(annotation)
    return next((value for value in given if value not in choices), given[-1])


def _takes(annotation: object, declared: object) -> str | None:
    if choices := _choices(annotation):
        return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
    bounds = declared if isinstance(declared, ParameterKwarg) else ParameterKwarg()
    if (number := _NUMBERS.get(_without_none(annotation))) is not None:
        return number if bounds.ge is None else f"{number} from {bounds.ge:g} to {bounds.le:g}"
    if bounds.max_length is not None:
        return f"at most {bounds.max_length} characters"
    return None
