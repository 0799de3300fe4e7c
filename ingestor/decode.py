"""A message's payload becomes measurements, or refusals that say why. Pure: no clock, no database.

The good case is one call of a typed msgspec decoder, which also holds the range of the axes. Only what it
refuses is looked at again, to tell the person who reads the dead letter what is wrong with it.
"""

import math
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ingestor.payload import is_msgpack, named, plain
from shared.models import AXIS_LIMIT, Microseconds, Reason
from shared.reading_times import recorded_at

MAX_PAYLOAD_BYTES = 2 * 1024 * 1024
"""Ten thousand readings with all their digits, offsets and spaces take 1.3 MB."""
MAX_READINGS = 10_000
"""In one array."""

_Axis = Annotated[float, msgspec.Meta(ge=-AXIS_LIMIT, le=AXIS_LIMIT)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)] | float


class Measurement(msgspec.Struct, frozen=True, gc=False):
    """What a device measured. `recorded_at` is None where the device did not say when."""

    x: float
    y: float
    z: float
    recorded_at: Microseconds | None


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """What is not taken: the payload, or the element of its array, and why."""

    payload: bytes
    reason: Reason
    detail: str


class _Sample(msgspec.Struct, gc=False):
    x: _Axis
    y: _Axis
    z: _Axis
    timestamp: _Moment | None = None


class _Format(msgspec.Struct, frozen=True):
    """The decoders of one encoding."""

    name: str
    one: Any
    many: Any
    elements: Any
    anything: Any


_JSON = _Format(
    "JSON",
    msgspec.json.Decoder(_Sample),
    msgspec.json.Decoder(list[_Sample]),
    msgspec.json.Decoder(list[msgspec.Raw]),
    msgspec.json.Decoder(float_hook=float),  # 1e999 is then infinite, and can be named out of range
)
_MSGPACK = _Format(
    "MessagePack",
    msgspec.msgpack.Decoder(_Sample),
    msgspec.msgpack.Decoder(list[_Sample]),
    msgspec.msgpack.Decoder(list[msgspec.Raw]),
    msgspec.msgpack.Decoder(),
)


_UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError)
"""What the decoders raise: ValueError for text in MessagePack that is not UTF-8, and for endless integers."""


class _Refused(Exception):
    """Carries the reason and detail of a refusal to where its payload is known."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


def decode(
    payload: bytes, content_type: str | None, now: Microseconds, oldest_age: Microseconds
) -> list[Measurement | Refusal]:
    """The measurements of a payload, in its order, with a Refusal for each element that is not one.

    A payload that cannot be read as a whole is one Refusal. An empty one holds nothing, not even a refusal: that is how
    a retained message is cleared (MQTT-3.3.1-6). Any bytes give one of these, never an error.
    `now`: the time of receipt; `oldest_age`: how far before it a timestamp may lie.
    """
    try:
        _check_size(payload)
        form = _MSGPACK if is_msgpack(payload, content_type) else _JSON
        document = payload if form is _MSGPACK else _text(payload)
        if not document:
            return []
        if _is_array(document, form):
            return _decode_array(document, form, now, oldest_age)
        return [_decode_one(document, form, now, oldest_age)]
    except _Refused as refused:
        known = named(payload, content_type) if refused.reason is Reason.MALFORMED else None
        return [Refusal(payload, refused.reason, known or refused.detail)]
    except Exception as error:  # noqa: BLE001  # a fault of ours must not come again with each redelivery, for ever
        return [Refusal(payload, Reason.MALFORMED, f"it could not be decoded: {type(error).__name__}: {error}")]


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise _Refused(Reason.TOO_LARGE, f"{len(payload)} bytes: a message holds at most {MAX_PAYLOAD_BYTES}")


def _text(payload: bytes) -> bytes:
    text = plain(payload)
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise _Refused(Reason.MALFORMED, f"not UTF-8: {error.reason} at byte {error.start}") from error
    return text


def _is_array(payload: bytes, form: _Format) -> bool:
    if form is _JSON:
        return payload.lstrip(b" \t\r\n")[:1] == b"["
    first = payload[:1]  # fixarray, array 16, array 32
    return b"\x90" <= first <= b"\x9f" or first in (b"\xdc", b"\xdd")


def _msgpack_length(payload: bytes) -> int:
    first = payload[0]
    if first < 0xA0:
        return first & 0x0F
    return int.from_bytes(payload[1:3] if first == 0xDC else payload[1:5], "big")


def _decode_one(payload: bytes, form: _Format, now: Microseconds, oldest_age: Microseconds) -> Measurement:
    try:
        sample = form.one.decode(payload)
    except msgspec.ValidationError as error:
        raise _explained(payload, form, error) from error
    except _UNREADABLE as error:
        raise _malformed(form, error) from error
    return _measurement(sample, now, oldest_age)


def _decode_array(
    payload: bytes, form: _Format, now: Microseconds, oldest_age: Microseconds
) -> list[Measurement | Refusal]:
    if form is _MSGPACK:
        _check_length(_msgpack_length(payload))  # before four million small elements are made
    try:
        samples = form.many.decode(payload)
    except (msgspec.ValidationError, RecursionError):  # perhaps of one element only
        return _decode_elements(payload, form, now, oldest_age)
    except _UNREADABLE as error:
        raise _malformed(form, error) from error
    _check_length(len(samples))
    try:
        return [_measurement(sample, now, oldest_age) for sample in samples]
    except _Refused:
        return _decode_elements(payload, form, now, oldest_age)


def _decode_elements(
    payload: bytes, form: _Format, now: Microseconds, oldest_age: Microseconds
) -> list[Measurement | Refusal]:
    """Each element by itself: the good ones of an array are taken, whatever the others are."""
    try:
        elements = form.elements.decode(payload)
    except _UNREADABLE as error:
        raise _malformed(form, error) from error
    _check_length(len(elements))
    return [_decode_element(bytes(element), form, now, oldest_age) for element in elements]


def _decode_element(
    element: bytes, form: _Format, now: Microseconds, oldest_age: Microseconds
) -> Measurement | Refusal:
    try:
        return _decode_one(element, form, now, oldest_age)
    except _Refused as refused:
        return Refusal(element, refused.reason, refused.detail)


def _check_length(count: int) -> None:
    if count == 0:
        raise _Refused(Reason.INVALID_READING, "an empty array holds no reading")
    if count > MAX_READINGS:
        raise _Refused(Reason.TOO_LARGE, f"an array of {count}: it holds at most {MAX_READINGS} readings")


def _measurement(sample: _Sample, now: Microseconds, oldest_age: Microseconds) -> Measurement:
    timestamp = sample.timestamp
    moment = None if timestamp is None else _moment(timestamp, now, oldest_age)
    return Measurement(sample.x, sample.y, sample.z, moment)


def _moment(timestamp: datetime | float, now: Microseconds, oldest_age: Microseconds) -> Microseconds:
    try:
        return recorded_at(timestamp, now, oldest_age)
    except ValueError as error:
        raise _Refused(Reason.BAD_TIMESTAMP, f"timestamp: {error}") from error


# What a refused payload is told. Only here is speed of no concern.


def _malformed(form: _Format, error: Exception) -> _Refused:
    detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return _Refused(Reason.MALFORMED, f"not {form.name}: {detail}")


def _explained(payload: bytes, form: _Format, error: msgspec.ValidationError) -> _Refused:
    """Why a well-formed payload is no reading: by looking at it untyped."""
    try:
        value = form.anything.decode(payload)
    except _UNREADABLE as worse:
        return _malformed(form, worse)
    if not isinstance(value, dict):
        return _Refused(Reason.INVALID_READING, f"expected an object with x, y and z, got {_kind(value)}")
    for axis in ("x", "y", "z"):
        fault = _axis_fault(axis, value)
        if fault is not None:
            return fault
    if value.get("timestamp") is not None:
        return _Refused(
            Reason.BAD_TIMESTAMP,
            f"timestamp: {_shown(value['timestamp'])} is neither RFC 3339 with an offset, such as "
            '"2026-01-31T12:00:00.25Z", nor a number of seconds since 1970',
        )
    return _Refused(Reason.INVALID_READING, str(error))


def _axis_fault(axis: str, value: dict[Any, Any]) -> _Refused | None:
    if axis not in value:
        return _Refused(Reason.INVALID_READING, f"{axis} is missing")
    number = value[axis]
    if isinstance(number, bool) or not isinstance(number, int | float):
        return _Refused(Reason.INVALID_READING, f"{axis}: expected a number, got {_kind(number)}")
    if isinstance(number, float) and math.isnan(number):
        return _Refused(Reason.INVALID_READING, f"{axis} is not a number (NaN)")
    if not -AXIS_LIMIT <= number <= AXIS_LIMIT:
        limit = int(AXIS_LIMIT)
        return _Refused(Reason.OUT_OF_RANGE, f"{axis}: {_shown(number)} is not within -{limit} and {limit}")
    return None


_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number",
          float: "a number", type(None): "null", bytes: "bytes"}  # fmt: skip
_SHOWN_CHARACTERS = 60


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        return _kind(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
