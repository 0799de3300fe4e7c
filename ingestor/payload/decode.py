"""Decoding of a payload into measurements, or refusals with their reasons. Pure: no clock, no database.

A valid payload takes one call of a typed msgspec decoder, which also checks the range of the axes. Only a refused
payload is decoded again, to describe its fault in the dead letter.
"""

from datetime import datetime

import msgspec

from ingestor.payload.columns import FEWEST, in_columns
from ingestor.payload.explain import explain, reason_of
from ingestor.payload.formats import UNREADABLE, PayloadFormat, Sample, check_count
from ingestor.payload.json_format import JSON
from ingestor.payload.measurements import Measurement, Refusal, RefusedPayload, Results
from ingestor.payload.message_pack import MESSAGE_PACK
from ingestor.payload.undecodable import named, plain
from shared.readings.model import Microseconds, Reason
from shared.readings.rules import accepted_at, recorded_at

MAX_PAYLOAD_BYTES = 2 * 1024 * 1024
"""Ten thousand readings with all digits, offsets and spaces take 1.3 MB."""
FAULTS_DESCRIBED = 10
"""Number of described faults of one message. The first fault of each reason is described in addition."""
FORMATS = (MESSAGE_PACK, JSON)
"""If no content type names a format, the first one that matches the payload is used."""


def decode(payload: bytes, content_type: str | None, now: Microseconds, oldest_age: Microseconds) -> Results:
    """Return the measurements of a payload in order, with a Refusal in place of each invalid element.

    A payload that cannot be decoded is one Refusal. An empty payload clears a retained message (MQTT-3.3.1-6): the
    result is empty. No payload raises an error.
    `now`: time of receipt; `oldest_age`: greatest age of a timestamp at that time.
    """
    if not payload:
        return []
    try:
        _check_size(payload)
        form = format_of(payload, content_type)
        form.check(payload)
        if form.is_array(payload):
            return _decode_array(payload, form, now, oldest_age)
        return [_decode_one(payload, form, now, oldest_age)]
    except RefusedPayload as refused:
        if refused.reason is not Reason.MALFORMED or named_format(content_type):
            return [Refusal(refused.reason, refused.detail)]
        document = plain(payload)
        if document != payload:
            return decode(document, content_type, now, oldest_age)
        return [Refusal(refused.reason, named(payload) or refused.detail)]
    except Exception as error:  # noqa: BLE001  # a bug here must not recur at each redelivery
        return [Refusal(Reason.MALFORMED, f"it could not be decoded: {type(error).__name__}: {error}")]


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise RefusedPayload(Reason.TOO_LARGE, f"{len(payload)} bytes: a message has at most {MAX_PAYLOAD_BYTES}")


def format_of(payload: bytes, content_type: str | None) -> PayloadFormat:
    """Return the format that the content type names, or else the first one that matches the payload."""
    return named_format(content_type) or next(form for form in FORMATS if form.matches(payload))


def named_format(content_type: str | None) -> PayloadFormat | None:
    """Return the format that the content type names."""
    if content_type is None:
        return None
    return next((form for form in FORMATS if form.content_type == content_type), None)


def _decode_one(payload: bytes, form: PayloadFormat, now: Microseconds, oldest_age: Microseconds) -> Measurement:
    try:
        sample = form.one.decode(payload)
    except msgspec.ValidationError as error:
        raise _explained(payload, form, error) from error
    except UNREADABLE as error:
        raise _malformed(form, error) from error
    return _measurement(sample, now, oldest_age)


def _decode_array(payload: bytes, form: PayloadFormat, now: Microseconds, oldest_age: Microseconds) -> Results:
    form.check_length(payload, True)
    try:
        samples = form.many.decode(payload)
    except (msgspec.ValidationError, RecursionError):  # maybe in one element only
        return _decode_elements(payload, form, now, oldest_age)
    except UNREADABLE as error:
        raise _malformed(form, error) from error
    check_count(len(samples))
    if len(samples) >= FEWEST and (columns := in_columns(samples, now, oldest_age)) is not None:
        return columns
    try:
        return [_measurement(sample, now, oldest_age) for sample in samples]
    except RefusedPayload:
        return _decode_elements(payload, form, now, oldest_age)


def _decode_elements(
    payload: bytes, form: PayloadFormat, now: Microseconds, oldest_age: Microseconds
) -> list[Measurement | Refusal]:
    """Decode each element separately, so that the valid elements of an array are kept."""
    form.check_length(payload, False)
    try:
        elements = form.elements.decode(payload)
    except UNREADABLE as error:
        raise _malformed(form, error) from error
    check_count(len(elements))
    one = _Elements(form, now, oldest_age)
    return [one.decode(element) for element in elements]


class _Elements:
    """Decodes the elements of one array separately.

    It takes longer to describe a fault than to find it. So only the first faults and the first of each reason are
    described. All others of a reason share one refusal.
    """

    def __init__(self, form: PayloadFormat, now: Microseconds, oldest_age: Microseconds) -> None:
        self._form = form
        self._now = now
        self._oldest_age = oldest_age
        self._described = 0
        self._others: dict[Reason, Refusal] = {}

    def decode(self, element: msgspec.Raw) -> Measurement | Refusal:
        try:
            sample = self._form.one.decode(element)
        except msgspec.ValidationError as error:
            reason = reason_of(str(error), self._form.has_nan)
        except UNREADABLE:
            reason = Reason.MALFORMED
        else:
            if sample.timestamp is None:
                return Measurement(sample.x, sample.y, sample.z, None)
            moment = accepted_at(sample.timestamp, self._now, self._oldest_age)
            if moment is not None:
                return Measurement(sample.x, sample.y, sample.z, moment)
            reason = Reason.BAD_TIMESTAMP
        return self._other(reason) or self._describe(element)

    def _other(self, reason: Reason | None) -> Refusal | None:
        """Return the refusal without a description, if enough faults are described."""
        return self._others.get(reason) if reason and self._described >= FAULTS_DESCRIBED else None

    def _describe(self, element: msgspec.Raw) -> Refusal:
        refused = _refused(bytes(element), self._form, self._now, self._oldest_age)
        self._described += 1
        self._others.setdefault(refused.reason, Refusal(refused.reason, ""))
        return refused


def _refused(element: bytes, form: PayloadFormat, now: Microseconds, oldest_age: Microseconds) -> Refusal:
    try:
        _decode_one(element, form, now, oldest_age)
    except RefusedPayload as refused:
        return Refusal(refused.reason, refused.detail)
    raise AssertionError("the decoder refused the element before and accepts it now")


def _measurement(sample: Sample, now: Microseconds, oldest_age: Microseconds) -> Measurement:
    timestamp = sample.timestamp
    if timestamp is None:
        return Measurement(sample.x, sample.y, sample.z, None)
    moment = accepted_at(timestamp, now, oldest_age)
    if moment is None:
        raise _bad_timestamp(timestamp, now, oldest_age)
    return Measurement(sample.x, sample.y, sample.z, moment)


# Descriptions of refused payloads. Speed matters less here than in the code above.


def _bad_timestamp(timestamp: datetime | float, now: Microseconds, oldest_age: Microseconds) -> RefusedPayload:
    try:
        recorded_at(timestamp, now, oldest_age)
    except ValueError as error:
        return RefusedPayload(Reason.BAD_TIMESTAMP, f"timestamp: {error}")
    raise AssertionError("a timestamp is not accepted, and no rule refuses it")


def _malformed(form: PayloadFormat, error: Exception) -> RefusedPayload:
    detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return RefusedPayload(Reason.MALFORMED, f"not {form.name}: {detail}")


def _explained(payload: bytes, form: PayloadFormat, error: msgspec.ValidationError) -> RefusedPayload:
    try:
        return RefusedPayload(*explain(payload, form, error))
    except UNREADABLE as worse:
        return _malformed(form, worse)
