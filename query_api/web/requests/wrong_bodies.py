"""Say what is wrong in the body of a request: each wrong field, or why it is not JSON.

msgspec stops at the first fault. The faults of a long array are found in parts of some milliseconds.
"""

import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, islice
from typing import Any

import msgspec
from msgspec import inspect

from query_api.errors import MAX_DISPLAYED, Fault, displayed
from query_api.web.answers import problems
from query_api.web.answers.problems import MAX_FAULTS, Refused, invalid
from query_api.web.requests.nearest import not_known
from shared.encodings import BOM, wide_encoding
from shared.json_arrays import has_more_than

UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""Errors of a body that is not JSON in UTF-8."""
EXPLAINED_BYTES = 64 * 1024
"""Of a longer object, only the first fault is found. Its text is not searched for half of a character."""
PART = 10
"""Elements of an array whose faults are found at once, if they are short."""
PART_BYTES = 64 * 1024
"""An element that exceeds it is the last one of its part."""
_BLANK = b" \t\r\n"
_anything = msgspec.json.Decoder(float_hook=float)  # 1e999 is then infinite, and out of its range
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_undecoded = msgspec.json.Decoder(msgspec.Raw)


def malformed(body: bytes, error: Exception) -> Refused:
    if isinstance(error, RecursionError):
        detail = "nested too deeply"
    elif len(body) <= EXPLAINED_BYTES and _lone_surrogate(body):
        detail = r"a \u escape from \ud800 to \udfff is half of a character, and the other half is missing"
    elif not body.strip():
        detail = "it is empty"
    elif wide := wide_encoding(body):
        detail = f"it is {wide}"
    else:
        detail = str(error)
    return Refused(problems.MALFORMED, f"the body is not JSON in UTF-8: {detail}")


def _lone_surrogate(body: bytes) -> bool:
    """Whether a lone surrogate is the only fault, which msgspec may report as truncation."""
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        pass
    return False


def require_length(body: bytes, record: Any) -> None:
    """Raise Refused if the body is a longer array than the record allows. msgspec would decode all of it first."""
    array = _array_in(record)
    if array is not None and array.max_length is not None and body.count(b"{") > array.max_length:
        _require_length(body.removeprefix(BOM), array)


def _require_length(body: bytes, array: inspect.ListType) -> None:
    if array.max_length is not None and has_more_than(array.max_length, body):
        raise invalid(Fault("body", f"expected an array of {_length(array)}, got a longer one"))


def _length(array: inspect.ListType) -> str:
    return f"{array.min_length or 0} to {array.max_length or math.inf:,}"


def explained(body: bytes, record: Any, error: msgspec.ValidationError) -> Iterator[Sequence[Fault]]:
    """Yield the faults of the body, in parts. `error`: the first. Raises Refused if it is not JSON, or too long."""
    body = body.removeprefix(BOM)
    try:
        is_explained = False
        for faults in _parts(body, record, error):
            is_explained = is_explained or bool(faults)
            yield faults
        if not is_explained:
            yield [_first(record, error)]
    except UNREADABLE as worse:
        raise malformed(body, worse) from worse


def _parts(body: bytes, record: Any, error: msgspec.ValidationError) -> Iterator[Sequence[Fault]]:
    struct, array = _struct(record), _array_in(record)
    if array is None or body.lstrip(_BLANK)[:1] != b"[":
        yield _faults(body, struct, "", error)
        return
    _require_length(body, array)
    elements = _elements.decode(body)
    if len(elements) < (array.min_length or 0):
        yield [Fault("body", f"expected an array of {_length(array)}, got one of {len(elements):,}")]
    at = 0
    for part in _short_parts(elements):
        found = [_element_faults(element, struct, f"[{number}]") for number, element in enumerate(part, at)]
        yield list(chain.from_iterable(found))
        at += len(part)


def _short_parts(elements: Sequence[msgspec.Raw]) -> Iterator[Sequence[bytes]]:
    part: list[bytes] = []
    size = 0
    for element in map(bytes, elements):
        part.append(element)
        size += len(element)
        if len(part) == PART or size > PART_BYTES:
            yield part
            part, size = [], 0
    yield part


def _element_faults(element: bytes, struct: type[msgspec.Struct], path: str) -> Sequence[Fault]:
    try:
        _decoder(struct).decode(element)
    except msgspec.ValidationError as error:
        return _faults(element, struct, path, error)
    return ()


def _faults(text: bytes, struct: type[msgspec.Struct], path: str, error: msgspec.ValidationError) -> Sequence[Fault]:
    """Return the faults of the text of what should be an object. `error`: the first."""
    if len(text) > EXPLAINED_BYTES:
        _undecoded.decode(text)  # raises one of UNREADABLE
        return [_first(struct, error, path)]
    try:
        value = _anything.decode(text)
    except msgspec.ValidationError:  # a number of thousands of digits
        return [_first(struct, error, path)]
    return list(_object_faults(value, struct, path))


@cache
def _decoder(struct: type) -> Any:
    return msgspec.json.Decoder(struct)


def _first(record: Any, error: msgspec.ValidationError, within: str = "") -> Fault:
    """Return the fault that msgspec stopped at: "Number out of range - at `$[3].x`". `within`: the path of the text."""
    problem, _, path = str(error).replace("`", "").partition(" - at $")
    path = within + path
    for field, takes in _fields(_struct(record)):
        if path.endswith(f".{field.encode_name}"):
            return Fault(path.lstrip("."), f"{problem.lower()}: expected {takes}")
    return Fault(path.lstrip(".") or "body", problem)


def _choices(record: Any) -> tuple[Any, ...]:
    info = inspect.type_info(record)
    return info.types if isinstance(info, inspect.UnionType) else (info,)


def _struct(record: Any) -> type:
    return next(choice.cls for choice in _choices(record) if isinstance(choice, inspect.StructType))


def _array_in(record: Any) -> inspect.ListType | None:
    return next((choice for choice in _choices(record) if isinstance(choice, inspect.ListType)), None)


def _object_faults(value: Any, struct: type[msgspec.Struct], path: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(path or "body", f"expected an object, got {displayed(value)}")
        return
    for field, takes in _fields(struct):
        name = f"{path}.{field.encode_name}" if path else field.encode_name
        if field.encode_name not in value:
            if field.required:
                yield Fault(name, f"is missing: expected {takes}")
        elif not _converts(value[field.encode_name], field.type):
            yield Fault(name, f"expected {takes}, got {displayed(value[field.encode_name])}")
    if struct.__struct_config__.forbid_unknown_fields:
        yield from _unknown_fields(value, {field.encode_name for field, _ in _fields(struct)}, path)


def _unknown_fields(value: dict[str, Any], known: set[str], path: str) -> Iterator[Fault]:
    for name in islice((name[:MAX_DISPLAYED] for name in value if name not in known), MAX_FAULTS):
        yield Fault(f"{path}.{name}" if path else name, not_known(name, known, "field"))


def _converts(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


@cache
def _fields(struct: type) -> list[tuple[msgspec.structs.FieldInfo, str]]:
    """Return each field with a description of its values."""
    return [(field, _takes(field)) for field in msgspec.structs.fields(struct)]


def _takes(field: msgspec.structs.FieldInfo) -> str:
    info: Any = inspect.type_info(field.type)
    if isinstance(info, inspect.UnionType):  # Annotated[…] | None
        info = info.types[0]
    takes: str = info.extra["takes"]
    return takes
