"""A request's body becomes its record, strictly, or a refusal that names every wrong field.

Litestar converts what `Request.json` returns with the leniency that query strings need ("1.5" is a number).
JSON has types: so the body is decoded here, by msgspec, straight into the record that the handler takes.
"""

from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import msgspec
from litestar import Request
from msgspec import inspect

from query_api import problems
from query_api.problems import Fault, Refused, invalid


class JsonRequest(Request[Any, Any, Any]):
    """A request whose JSON is decoded into the type of the handler's `data`."""

    async def json(self) -> Any:
        """The record. Raises Refused."""
        media_type = self.content_type[0]
        if media_type and media_type != "application/json" and not media_type.endswith("+json"):
            raise Refused(
                problems.UNSUPPORTED_MEDIA_TYPE,
                f"the body is {media_type}: send JSON, with the header Content-Type: application/json",
            )
        field = self.route_handler.parsed_data_field
        assert field is not None, "only a handler that takes `data` has its body read"
        return decode(await self.body(), field.annotation)


def decode(body: bytes, record: Any) -> Any:
    """The body as a record. Raises Refused: malformed, or with each field that is wrong."""
    try:
        if not body.isascii():
            body.decode()  # msgspec passes over what the record has no field for
        return _decoder(record).decode(body)
    except msgspec.ValidationError as error:
        raise _explained(body, record, error) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _malformed(error) from error


_anything = msgspec.json.Decoder(float_hook=float)  # 1e999 is then infinite, and out of its range


@cache
def _decoder(record: Any) -> Any:
    return msgspec.json.Decoder(record)


def _malformed(error: Exception) -> Refused:
    detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return Refused(problems.MALFORMED, f"the body is not JSON in UTF-8: {detail}")


def _explained(body: bytes, record: Any, error: msgspec.ValidationError) -> Refused:
    """msgspec stops at the first fault; a person wants to see them all."""
    try:
        value = _anything.decode(body)
    except msgspec.ValidationError:  # a number of thousands of digits
        return invalid(_first(error))
    except (msgspec.DecodeError, RecursionError) as worse:
        return _malformed(worse)
    faults = list(islice(_faults(value, record), problems.MAX_FAULTS))
    return invalid(*(faults or [_first(error)]))


def _first(error: msgspec.ValidationError) -> Fault:
    """The fault that msgspec stopped at: "Expected `float`, got `str` - at `$[3].x`"."""
    problem, _, path = _plain(error).partition(" - at $")
    return Fault(path.lstrip(".") or "body", problem)


def _faults(value: Any, record: Any) -> Iterator[Fault]:
    """Of a value that should be the struct or, where the record is a union with it, an array of them."""
    info = inspect.type_info(record)
    choices = info.types if isinstance(info, inspect.UnionType) else (info,)
    struct = next(choice for choice in choices if isinstance(choice, inspect.StructType)).cls
    if isinstance(value, list) and any(isinstance(choice, inspect.ListType) for choice in choices):
        for position, element in enumerate(value):
            yield from _object_faults(element, struct, f"[{position}]")
    else:
        yield from _object_faults(value, struct, "")


def _object_faults(value: Any, struct: type, path: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(path or "body", f"expected an object, got {_KINDS[type(value)]}")
        return
    for field in msgspec.structs.fields(struct):
        name = f"{path}.{field.encode_name}" if path else field.encode_name
        yield from _field_faults(value, field, name)


def _field_faults(value: dict[str, Any], field: msgspec.structs.FieldInfo, name: str) -> Iterator[Fault]:
    if field.encode_name not in value:
        if field.required:
            yield Fault(name, f"is missing. {_description(field)}")
        return
    try:
        msgspec.convert(value[field.encode_name], field.type)
    except msgspec.ValidationError as error:
        yield Fault(name, f"{_plain(error)}. {_description(field)}")


def _description(field: msgspec.structs.FieldInfo) -> str:
    """What the field takes, as the OpenAPI document has it."""
    info: Any = inspect.type_info(field.type)
    if isinstance(info, inspect.UnionType):  # Annotated[…] | None
        info = info.types[0]
    schema: dict[str, str] = info.extra_json_schema or {}
    return schema["description"]


def _plain(error: msgspec.ValidationError) -> str:
    return str(error).replace("`", "")


_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number",
          float: "a number", type(None): "null"}  # fmt: skip
