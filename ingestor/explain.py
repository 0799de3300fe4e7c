"""Why a well-formed payload is no reading: for the person who reads the dead letter. Pure.

What the payload holds beside a reading's fields may be of any size, and is not decoded.
"""

import math

import msgspec

from ingestor.formats import Format
from shared.models import AXIS_LIMIT, Reason

LONG = 1_000
"""Bytes. No number or timestamp takes so many: a longer value is not decoded."""
_SHOWN_CHARACTERS = 60

Fault = tuple[Reason, str]

_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number",
          float: "a number", type(None): "null", bytes: "bytes"}  # fmt: skip


class _Long:
    """In the place of a value that is too long to be looked at."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


def explain(payload: bytes, form: Format, error: msgspec.ValidationError) -> Fault:
    """Return the reason and the detail. `error`: what the decoder of readings says. Raises what
    `formats.UNREADABLE` names."""
    try:
        fields = form.fields.decode(payload)
    except msgspec.ValidationError:
        value = _value(payload, form)
        return Reason.INVALID_READING, f"expected an object with x, y and z, got {_kind(value)}"
    for axis in ("x", "y", "z"):
        fault = _axis_fault(axis, getattr(fields, axis), form)
        if fault is not None:
            return fault
    if bytes(fields.timestamp):
        shown = _shown(_value(fields.timestamp, form))
        return Reason.BAD_TIMESTAMP, (
            f"timestamp: {shown} is neither RFC 3339 with an offset, such as "
            '"2026-01-31T12:00:00.25Z", nor a number of seconds since 1970'
        )
    return Reason.INVALID_READING, str(error)


def _axis_fault(axis: str, raw: msgspec.Raw, form: Format) -> Fault | None:
    if not bytes(raw):
        return Reason.INVALID_READING, f"{axis} is missing"
    number = _value(raw, form)
    if isinstance(number, bool) or not isinstance(number, int | float):
        return Reason.INVALID_READING, f"{axis}: expected a number, got {_kind(number)}"
    if isinstance(number, float) and math.isnan(number):
        return Reason.INVALID_READING, f"{axis} is not a number (NaN)"
    if not -AXIS_LIMIT <= number <= AXIS_LIMIT:
        limit = int(AXIS_LIMIT)
        return Reason.OUT_OF_RANGE, f"{axis}: {_shown(number)} is not within -{limit} and {limit}"
    return None


def _value(raw: bytes | msgspec.Raw, form: Format) -> object:
    """The value, unless it is long."""
    if len(bytes(raw)) <= LONG:
        return form.anything.decode(raw)
    for decoder, kind in ((form.array, "an array"), (form.object, "an object")):
        try:
            decoder.decode(raw)
        except msgspec.ValidationError:
            continue
        return _Long(kind)
    return _Long("a long value")


def _kind(value: object) -> str:
    return value.kind if isinstance(value, _Long) else _KINDS.get(type(value), type(value).__name__)


def _shown(value: object) -> str:
    try:
        text = _kind(value) if isinstance(value, _Long) else repr(value)
    except RecursionError:
        return _kind(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
