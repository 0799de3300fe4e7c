"""JSON payloads. Pure."""

import msgspec

from ingestor.payload.formats import AnyArray, AnyObject, Fields, PayloadFormat, Sample
from ingestor.payload.measurements import RefusedPayload
from shared.json_arrays import has_more_than
from shared.readings.model import Reason
from shared.readings.rules import MAX_READINGS

SMALLEST_READINGS_BYTES = MAX_READINGS * len('{"x":0,"y":0,"z":0},')
"""An array of more than MAX_READINGS readings is longer than this."""


def _is_array(payload: bytes) -> bool:
    return payload.lstrip(b" \t\r\n")[:1] == b"["


def _check_utf8(payload: bytes) -> None:
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise RefusedPayload(Reason.MALFORMED, f"not UTF-8: {error.reason} at byte {error.start}") from error


def _check_length(payload: bytes, should_hold_readings: bool) -> None:
    """Count the elements if a character occurs often enough. It may also occur inside the elements."""
    if should_hold_readings:
        may_be_long = len(payload) > SMALLEST_READINGS_BYTES and payload.count(b"{") > MAX_READINGS
    else:
        may_be_long = payload.count(b",") >= MAX_READINGS
    if may_be_long and has_more_than(MAX_READINGS, payload):
        raise RefusedPayload(
            Reason.TOO_LARGE,
            f"an array of more than {MAX_READINGS} elements: it has at most {MAX_READINGS}",
        )


JSON = PayloadFormat(
    name="JSON",
    has_nan=False,
    one=msgspec.json.Decoder(Sample),
    many=msgspec.json.Decoder(list[Sample]),
    elements=msgspec.json.Decoder(list[msgspec.Raw]),
    fields=msgspec.json.Decoder(Fields),
    anything=msgspec.json.Decoder(float_hook=float),  # 1e999 becomes infinite, and is reported as out of range
    object=msgspec.json.Decoder(AnyObject),
    array=msgspec.json.Decoder(AnyArray),
    matches=lambda _: True,
    is_array=_is_array,
    check=_check_utf8,
    check_length=_check_length,
)
