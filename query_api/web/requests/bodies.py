"""Decode the body of a request strictly, or refuse it with every wrong field.

Litestar converts the result of `Request.json` leniently, as query strings need it ("1.5" is a number). JSON has types,
so msgspec decodes the body directly into the record that the handler takes.

The memory for long bodies in transfer is bounded.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any

import msgspec
from litestar import Request
from msgspec import inspect

from query_api.errors import MAX_DISPLAYED, Fault, displayed
from query_api.web.answers import problems
from query_api.web.answers.problems import MAX_FAULTS, Problem, Refused, invalid
from query_api.web.limits.callers import caller_of
from query_api.web.requests.nearest import not_known
from shared.encodings import BOM, wide_encoding

MAX_BODY_BYTES = 4 * 1024 * 1024
SMALL_BYTES = 64 * 1024
"""Bodies up to this size do not count against ROOM_BYTES."""
ROOM_BYTES = 256 * 1024 * 1024
"""For longer bodies in transfer, in total. A body without a length counts as MAX_BODY_BYTES."""
ROOM_EACH_BYTES = 64 * 1024 * 1024
"""For longer bodies of one caller, so that a client that announces bodies and sends none leaves room for others."""


class JsonRequest(Request[Any, Any, Any]):
    """A request whose JSON is decoded into the type of the handler's `data`."""

    async def json(self) -> Any:
        """Return the record. Raises Refused."""
        body = await super().body()
        media_type = self.content_type[0]
        if body and media_type != "application/json" and not media_type.endswith("+json"):
            raise Refused(
                problems.UNSUPPORTED_MEDIA_TYPE,
                f"the body is {media_type or 'of no type'}: send JSON, with the header Content-Type: application/json",
            )
        field = self.route_handler.parsed_data_field
        assert field is not None, "only a handler that takes `data` has its body read"
        return decode(body, field.annotation)

    async def body(self) -> bytes:
        """Return the body. Litestar calls it first. Raises Refused if there is no room."""
        length = MAX_BODY_BYTES if self.content_length is None else min(self.content_length, MAX_BODY_BYTES)
        if length <= SMALL_BYTES:
            return await super().body()
        with _long_bodies.room(caller_of(self.scope), length):
            return await super().body()


class Room:
    """The part of ROOM_BYTES in use by the requests of this process."""

    def __init__(self, total: int = ROOM_BYTES, each: int = ROOM_EACH_BYTES) -> None:
        self._total = total
        self._each = each
        self._taken = Counter[str]()

    @contextmanager
    def room(self, caller: str, length: int) -> Iterator[None]:
        """Reserve room for a body. Raises Refused if there is none: 429 for the bound of the caller."""
        if self._taken[caller] + length > self._each:
            raise _no_room(problems.TOO_MANY_REQUESTS, "too many long bodies of this key or address are in transfer")
        if self._taken.total() + length > self._total:
            raise _no_room(problems.UNAVAILABLE, "too many long bodies are in transfer")
        self._taken[caller] += length
        try:
            yield
        finally:
            self._taken[caller] -= length
            if not self._taken[caller]:
                del self._taken[caller]


def _no_room(problem: Problem, why: str) -> Refused:
    again = f"send fewer at a time, or retry in {problems.RETRY_AFTER_S} seconds"
    return Refused(problem, f"{why}: {again}", headers=problems.RETRY_AFTER)


_long_bodies = Room()


def decode(body: bytes, record: Any) -> Any:
    """Decode the body. Raises Refused: malformed, or with each wrong field."""
    body = body.removeprefix(BOM)  # RFC 8259, section 8.1
    try:
        if not body.isascii():
            body.decode()  # msgspec does not check unknown fields
        return _decoder(record).decode(body)
    except msgspec.ValidationError as error:
        raise _explained(body, record, error) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _malformed(body, error) from error


_anything = msgspec.json.Decoder(float_hook=float)  # 1e999 is then infinite, and out of its range


@cache
def _decoder(record: Any) -> Any:
    return msgspec.json.Decoder(record)


def _malformed(body: bytes, error: Exception) -> Refused:
    if isinstance(error, RecursionError):
        detail = "nested too deeply"
    elif _lone_surrogate(body):
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


def _explained(body: bytes, record: Any, error: msgspec.ValidationError) -> Refused:
    """msgspec stops at the first fault; this finds all of them."""
    try:
        value = _anything.decode(body)
    except msgspec.ValidationError:  # a number of thousands of digits
        return invalid(_first(record, error))
    except (msgspec.DecodeError, RecursionError) as worse:
        return _malformed(body, worse)
    faults = list(_faults(value, record))
    return invalid(*(faults or [_first(record, error)]))


def _first(record: Any, error: msgspec.ValidationError) -> Fault:
    """The fault that msgspec stopped at: "Number out of range - at `$[3].x`"."""
    problem, _, path = str(error).replace("`", "").partition(" - at $")
    for field, takes in _fields(_struct(record)):
        if path.endswith(f".{field.encode_name}"):
            return Fault(path.lstrip("."), f"{problem.lower()}: expected {takes}")
    return Fault(path.lstrip(".") or "body", problem)


def _choices(record: Any) -> tuple[Any, ...]:
    info = inspect.type_info(record)
    return info.types if isinstance(info, inspect.UnionType) else (info,)


def _struct(record: Any) -> type:
    return next(choice.cls for choice in _choices(record) if isinstance(choice, inspect.StructType))


def _faults(value: Any, record: Any) -> Iterator[Fault]:
    """Yield the faults of a value that should be the struct or, if the record is a union, an array of structs."""
    array = next((choice for choice in _choices(record) if isinstance(choice, inspect.ListType)), None)
    if not isinstance(value, list) or array is None:
        yield from _object_faults(value, _struct(record), "")
        return
    least, most = array.min_length or 0, array.max_length or math.inf
    if not least <= len(value) <= most:
        yield Fault("body", f"expected an array of {least} to {most:,}, got one of {len(value):,}")
        return
    for position, element in enumerate(value):
        yield from _object_faults(element, _struct(record), f"[{position}]")


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
