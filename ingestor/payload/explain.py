"""Description of the fault of a well-formed payload that is not a reading, for the dead letter. Pure.

Other fields of the payload may have any size, and are not decoded.
"""

import math
from functools import lru_cache

import msgspec

from ingestor.payload.formats import FIELDS, PayloadFormat
from shared.readings.model import Reason
from shared.readings.rules import AXIS_RULE, MQTT_TIME_RULE

LONG = 1_000
"""Bytes. A longer value is not decoded, because every number and timestamp is shorter."""
_SHOWN_CHARACTERS = 60
_MISSING = "Object missing required field "

Explanation = tuple[Reason, str]

_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number",
          float: "a number", type(None): "null", bytes: "bytes"}  # fmt: skip


class _Long:
    """Placeholder of a value that is too long to be decoded."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


def explain(payload: bytes | msgspec.Raw, form: PayloadFormat, error: msgspec.ValidationError) -> Explanation:
    """Return the reason and the detail of the first fault, which the decoder of readings reported as `error`.

    Raises the errors in `formats.UNREADABLE`.
    """
    words = str(error)
    field = _field(words)
    if field is None:
        if words.startswith(_MISSING):
            return Reason.INVALID_READING, f"{words[len(_MISSING) :].strip('`')} is missing"
        kind = _kind(_value(payload, form))
        if kind == "an object":  # with a key that is not a string
            return Reason.INVALID_READING, words
        return Reason.INVALID_READING, f"expected an object with x, y and z, got {kind}"
    value = _value(getattr(form.fields.decode(payload), field), form)
    if field != "timestamp":
        return _axis_fault(field, value)
    return Reason.BAD_TIMESTAMP, f"timestamp: {_shown(value)} is not {MQTT_TIME_RULE}"


@lru_cache(maxsize=256)
def reason_of(words: str, has_nan: bool) -> Reason | None:
    """Return the reason that `explain` would return, from the text of the error alone; None if the text is ambiguous.

    There are few different texts: they name a field and the expected and found types, and contain no values.
    """
    field = _field(words)
    if field == "timestamp":
        return Reason.BAD_TIMESTAMP
    if field is None or "got" in words:
        return Reason.INVALID_READING
    return None if has_nan else Reason.OUT_OF_RANGE


def _field(words: str) -> str | None:
    """Return the field that a message such as "Expected `float`, got `str` - at `$.x`" names."""
    path = words.rpartition(" - at `$.")[2].rstrip("`")
    return path if path in FIELDS else None


def _axis_fault(axis: str, number: object) -> Explanation:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return Reason.INVALID_READING, f"{axis}: expected a number, got {_kind(number)}"
    if isinstance(number, float) and math.isnan(number):
        return Reason.INVALID_READING, f"{axis} is not a number (NaN)"
    return Reason.OUT_OF_RANGE, f"{axis}: {_shown(number)} is not {AXIS_RULE}"


def _value(raw: bytes | msgspec.Raw, form: PayloadFormat) -> object:
    """Return the value, or a placeholder if it is long."""
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
