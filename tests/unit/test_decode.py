"""Decoding turns any bytes into measurements or refusals, and each refusal names the fault."""

import math
import sys
import tracemalloc
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor.payload.decode import FAULTS_DESCRIBED, MAX_PAYLOAD_BYTES, Measurement, Refusal, decode
from ingestor.payload.message_pack import MESSAGE_PACK
from shared.readings.model import DAY, SECOND, Reason, to_microseconds
from shared.readings.rules import MAX_READINGS

MSGPACK = MESSAGE_PACK.content_type
NOW = to_microseconds(datetime(2026, 6, 15, 12, tzinfo=UTC))

axes = st.floats(-1000, 1000)
TEN_YEARS = 3653 * DAY
moments = st.integers(NOW - TEN_YEARS, NOW + DAY)
measurements = st.builds(Measurement, axes, axes, axes, st.none() | moments)


def as_sent(m: Measurement) -> dict[str, object]:
    """Return a measurement as a device would send it, with its timestamp in RFC 3339."""
    body: dict[str, object] = {"x": m.x, "y": m.y, "z": m.z}
    if m.recorded_at is not None:
        seconds, fraction = divmod(m.recorded_at, SECOND)
        stamp = datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction)
        body["timestamp"] = stamp.isoformat()
    return body


def only(payload: bytes, content_type: str | None = None) -> Measurement | Refusal:
    results = decode(payload, content_type, NOW, TEN_YEARS)
    assert len(results) == 1
    return results[0]


def refusal(payload: bytes, content_type: str | None = None) -> Refusal:
    result = only(payload, content_type)
    assert isinstance(result, Refusal)
    return result


@given(measurements)
def test_one_reading_in_json_round_trips(measurement: Measurement) -> None:
    assert only(msgspec.json.encode(as_sent(measurement))) == measurement


@given(st.lists(measurements, min_size=1, max_size=20))
def test_an_array_round_trips_in_both_encodings(given_: list[Measurement]) -> None:
    bodies = [as_sent(m) for m in given_]
    assert decode(msgspec.json.encode(bodies), None, NOW, TEN_YEARS) == given_
    assert decode(msgspec.msgpack.encode(bodies), None, NOW, TEN_YEARS) == given_
    assert decode(msgspec.msgpack.encode(bodies), MSGPACK, NOW, TEN_YEARS) == given_


@given(moments)
def test_a_timestamp_in_seconds_keeps_its_microseconds(moment: int) -> None:
    body = {"x": 1, "y": 2, "z": 3, "timestamp": moment / SECOND}
    assert only(msgspec.json.encode(body)) == Measurement(1, 2, 3, moment)


@given(st.binary(), st.sampled_from([None, MSGPACK, "application/json", "text/plain"]))
def test_any_bytes_are_measurements_or_refusals(payload: bytes, content_type: str | None) -> None:
    results = decode(payload, content_type, NOW, TEN_YEARS)
    if content_type != MSGPACK:  # in MessagePack a NUL is a number
        assert bool(results) is bool(payload.rstrip(b"\0").replace(b"\xef\xbb\xbf", b""))
    assert all(isinstance(r, Measurement | Refusal) for r in results)


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "z", "timestamp", "w"]), inner)
    ),
    max_leaves=12,
)


@given(_anything, st.booleans())
def test_any_document_is_taken_or_refused_and_what_is_taken_is_valid(value: object, packed: bool) -> None:
    try:
        payload = msgspec.msgpack.encode(value) if packed else msgspec.json.encode(value)
    except OverflowError:  # MessagePack's integers end at 64 bits
        return
    for result in decode(payload, MSGPACK if packed else None, NOW, TEN_YEARS):
        if isinstance(result, Measurement):
            assert all(-1000 <= axis <= 1000 for axis in (result.x, result.y, result.z))
            assert result.recorded_at is None or NOW - TEN_YEARS <= result.recorded_at <= NOW + DAY
        else:
            assert result.detail


READING = b'{"x":1,"y":2,"z":3}'


@pytest.mark.parametrize(
    ("payload", "reason", "names"),
    [
        (b" ", Reason.MALFORMED, "not JSON"),
        (READING.decode().encode("utf-16"), Reason.MALFORMED, "the payload is UTF-16: send UTF-8"),
        (READING.decode().encode("utf-16-le"), Reason.MALFORMED, "the payload is UTF-16: send UTF-8"),
        (f" {READING.decode()}".encode("utf-16-be"), Reason.MALFORMED, "the payload is UTF-16: send UTF-8"),
        (READING.decode().encode("utf-32"), Reason.MALFORMED, "the payload is UTF-32: send UTF-8"),
        (READING.decode().encode("utf-32-le"), Reason.MALFORMED, "the payload is UTF-32: send UTF-8"),
        (READING.decode().encode("utf-32-be"), Reason.MALFORMED, "the payload is UTF-32: send UTF-8"),
        (b"{\0\0\0\0", Reason.MALFORMED, "truncated"),
        (b"\xff\xfe\x01", Reason.MALFORMED, "not UTF-8"),
        ((" " * 2000 + READING.decode()).encode("utf-16"), Reason.MALFORMED, "the payload is UTF-16: send UTF-8"),
        (b"\x7f\xff", Reason.MALFORMED, "not UTF-8"),
        (b'{"x":1,"y":2,"z":3,"note":"\xff"}', Reason.MALFORMED, "not UTF-8"),
        (b"\xff\xfd", Reason.MALFORMED, "not MessagePack"),
        (b'{"x":1,"y":2', Reason.MALFORMED, "truncated"),
        (READING + READING, Reason.MALFORMED, "trailing"),
        (b'{"x":NaN,"y":2,"z":3}', Reason.MALFORMED, "not JSON"),
        (b'{"x":1,"y":2,"z":3,"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", Reason.MALFORMED, "nested too deeply"),
        (b'{"x":"1","y":2,"z":3}', Reason.INVALID_READING, "x: expected a number, got a string"),
        (b'{"x":true,"y":2,"z":3}', Reason.INVALID_READING, "x: expected a number, got a boolean"),
        (b'{"x":1,"y":null,"z":3}', Reason.INVALID_READING, "y: expected a number, got null"),
        (b'{"x":1,"y":2}', Reason.INVALID_READING, "z is missing"),
        (b"null", Reason.INVALID_READING, "got null"),
        (b"7", Reason.INVALID_READING, "got a number"),
        (b"[]", Reason.INVALID_READING, "array is empty"),
        (b'{"x":1,"y":2,"z":3,"timestamp":' + b"9" * 400 + b"}", Reason.BAD_TIMESTAMP, "timestamp: "),
        (b"\xa6abcde\x80", Reason.MALFORMED, "not MessagePack"),
        (b'{"x":1e999,"y":2,"z":3}', Reason.OUT_OF_RANGE, "x: inf"),
        (b'{"x":1,"y":-1000.0001,"z":3}', Reason.OUT_OF_RANGE, "y: -1000.0001 is not a number from -1000 to 1000"),
        (b'{"x":1,"y":2,"z":1000.0001}', Reason.OUT_OF_RANGE, "z: 1000.0001"),
        (b'{"x":1,"y":2,"z":' + b"9" * 400 + b"}", Reason.OUT_OF_RANGE, "z: "),
        (b'{"x":1,"y":2,"z":3,"timestamp":"2026-01-31T12:00:00"}', Reason.BAD_TIMESTAMP, "with an offset"),
        (b'{"x":1,"y":2,"z":3,"timestamp":"yesterday"}', Reason.BAD_TIMESTAMP, "yesterday"),
        (b'{"x":1,"y":2,"z":3,"timestamp":true}', Reason.BAD_TIMESTAMP, "True"),
        (b'{"x":1,"y":2,"z":3,"timestamp":"9999-12-31T23:59:59-14:00"}', Reason.BAD_TIMESTAMP, "a day ahead"),
        (b'{"x":1,"y":2,"z":3,"timestamp":"2016-06-14T11:59:59Z"}', Reason.BAD_TIMESTAMP, "3653 days old"),
        (b'{"x":1,"y":2,"z":3,"timestamp":1465905599}', Reason.BAD_TIMESTAMP, "1465905599 (2016-06-14T11:59:59+00:00)"),
        (b'{"x":1,"y":2,"z":3,"timestamp":"1970-01-01T00:00:05Z"}', Reason.BAD_TIMESTAMP, "should omit the timestamp"),
        (
            b'{"x":1,"y":2,"z":3,"timestamp":20261101}',
            Reason.BAD_TIMESTAMP,
            "a date written as a number: write 2026-11",
        ),
        (b'{"x":1,"y":2,"z":3,"timestamp":0}', Reason.BAD_TIMESTAMP, "a clock that is not set"),
        (b'{"x":1,"y":2,"z":3,"timestamp":86400.5}', Reason.BAD_TIMESTAMP, "seconds since the device started"),
        (
            b'{"x":1,"y":2,"z":3,"timestamp":1769860800250}',
            Reason.BAD_TIMESTAMP,
            "milliseconds since 1970: write seconds, 17",
        ),
        (b'{"x":1,"y":2,"z":3,"timestamp":"0001-01-01T00:00:00+14:00"}', Reason.BAD_TIMESTAMP, "days old"),
        (b'{"x":1,"y":2,"z":3,"timestamp":-1}', Reason.BAD_TIMESTAMP, "-1"),
        (b'{"x":1,"y":2,"z":3,"timestamp":1e300}', Reason.BAD_TIMESTAMP, "1e+300"),
        (b'{"x":1,"y":2,"z":3,"timestamp":1e999}', Reason.BAD_TIMESTAMP, "inf"),
        (b"[" + b",".join([READING] * (MAX_READINGS + 1)) + b"]", Reason.TOO_LARGE, "an array of more than 10000"),
        (READING + b" " * MAX_PAYLOAD_BYTES, Reason.TOO_LARGE, "bytes"),
    ],
)
def test_what_is_refused_is_told_why(payload: bytes, reason: Reason, names: str) -> None:
    refused = refusal(payload)
    assert refused.reason is reason
    assert names in refused.detail


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize(
    ("value", "reason", "names"),
    [
        (math.nan, Reason.INVALID_READING, "NaN"),
        (math.inf, Reason.OUT_OF_RANGE, "inf"),
        (b"1", Reason.INVALID_READING, "bytes"),
    ],
)
def test_messagepack_can_say_what_json_cannot(axis: str, value: object, reason: Reason, names: str) -> None:
    refused = refusal(msgspec.msgpack.encode({"x": 1, "y": 2, "z": 3, axis: value}))
    assert refused.reason is reason
    assert refused.detail.startswith(axis)
    assert names in refused.detail


def test_the_good_elements_of_an_array_are_taken_and_each_bad_one_refused_by_itself() -> None:
    results = decode(
        b'[{"x":1,"y":2,"z":3}, {"x":"no","y":2,"z":3}, [], {"x":4,"y":5,"z":6,"timestamp":-5}]', None, NOW, TEN_YEARS
    )
    assert results[0] == Measurement(1, 2, 3, None)
    refused = results[1:]
    assert [r.reason for r in refused if isinstance(r, Refusal)] == [
        Reason.INVALID_READING,
        Reason.INVALID_READING,
        Reason.BAD_TIMESTAMP,
    ]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"x":1000,"y":-1000,"z":-0.0}',
        b' \n{"x":1,"y":2,"z":3,"unit":"mm","nested":{"a":[1]}}\n',
        b'{"z":3,"timestamp":null,"y":2,"x":1}',
        b'{"x":1,"y":2,"z":3,"timestamp":1465905600}',
        b'{"x":1,"y":2,"z":3,"timestamp":"2016-06-14T12:00:00Z"}',
        b'{"x":1,"y":2,"z":3,"timestamp":"2026-06-16T11:59:59.999999Z"}',
        b'{"x":1,"y":2,"z":3,"timestamp":"2026-01-31t12:00:00.25+05:30"}',
        ' [{"x":1,"y":2,"z":3,"place":"Köln"}] '.encode(),
        b'\xef\xbb\xbf{"x":1,"y":2,"z":3}',
        b'{"x":1,"y":2,"z":3}\n\0\0\0',
        '\ufeff[{"x":1,"y":2,"z":3,"place":"Köln"}]\0'.encode(),
        b"\xef\xbb\xbf" + b" " * 2000 + b'{"x":1,"y":2,"z":3}',
    ],
)
def test_what_the_contract_allows_is_taken(payload: bytes) -> None:
    assert isinstance(only(payload), Measurement)


@pytest.mark.parametrize(
    "payload", [b"", b"\0", b"\0" * 9, b"\xef\xbb\xbf", b"\xef\xbb\xbf\0", b"\xef\xbb\xbf" * 600_000]
)
def test_an_empty_payload_holds_nothing(payload: bytes) -> None:
    assert decode(payload, None, NOW, TEN_YEARS) == []


@pytest.mark.parametrize("shape", ["[%s]", '{"x":1,"y":2,"z":3,"timestamp":%s}', '[{"x":%s}]', "%s"])
@pytest.mark.parametrize("around", ["[%s]", '{"a":%s}'])
def test_no_depth_of_nesting_is_an_error(shape: str, around: str) -> None:
    """A value that the decoder reads may be nested too deeply for repr. Each depth near the limit is tested."""
    opening, closing = around.split("%s")
    for depth in range(sys.getrecursionlimit() - 120, sys.getrecursionlimit() + 10):
        payload = (shape % (opening * depth + "1" + closing * depth)).encode()
        assert all(isinstance(result, Refusal) for result in decode(payload, None, NOW, TEN_YEARS))


def test_a_message_pack_array_is_counted_before_it_is_read() -> None:
    refused = refusal(b"\xdd\x00\x1e\x84\x80" + b"\x00" * 2_000_000)
    assert (refused.reason, "an array of 2000000" in refused.detail) == (Reason.TOO_LARGE, True)


def _filled(element: bytes) -> bytes:
    """Return an array with the greatest number of these elements that fits into a message."""
    return b"[" + b",".join([element] * (MAX_PAYLOAD_BYTES // (len(element) + 1) - 1)) + b"]"


@pytest.mark.parametrize(
    "payload",
    [
        *(_filled(element) for element in (b"0", b"{}", b"[]", b'""', b'{"x":0,"y":0,"z":0}')),
        b'{"x":' + _filled(b"[]") + b"}",
        b'{"x":1,"y":2,"junk":' + _filled(b"{}") + b"}",
        b'[{"x":1,"y":2,"junk":' + _filled(b"{}") + b"}]",
        b'{"x":1,"y":2,"z":3,"timestamp":' + _filled(b"1.5") + b"}",
        msgspec.msgpack.encode({"x": 1, "y": 2, "junk": [{}] * 2_000_000}),
    ],
)
def test_what_is_refused_takes_little_memory(payload: bytes) -> None:
    """Before elements were counted, two megabytes of small elements became 78 MB of objects."""
    decode(b"[0" + b",0" * MAX_READINGS + b"]", None, NOW, TEN_YEARS)  # creates the decoder that counts
    tracemalloc.start()
    try:
        results = decode(payload, None, NOW, TEN_YEARS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(isinstance(result, Refusal) for result in results)
    assert peak < 2 * MAX_PAYLOAD_BYTES


@pytest.mark.parametrize(
    "junk", [b"[" + b"0," * 200_000 + b"0]", b'"' + b"{," * 200_000 + b'"', b"[" + b"{}," * 200_000 + b"{}]"]
)
def test_what_readings_hold_beside_their_fields_is_not_counted(junk: bytes) -> None:
    for other in (READING, b"0"):
        payload = b"[" + READING[:-1] + b',"junk":' + junk + b"}," + other + b"]"
        first, second = decode(payload, None, NOW, TEN_YEARS)
        assert first == Measurement(1, 2, 3, None)
        assert isinstance(second, Measurement if other is READING else Refusal)


def test_an_array_holds_up_to_ten_thousand() -> None:
    results = decode(b"[" + b",".join([READING] * MAX_READINGS) + b"]", None, NOW, TEN_YEARS)
    assert results == [Measurement(1, 2, 3, None)] * MAX_READINGS


_FAULTY = [
    0,
    {},
    [],
    {"x": 2000, "y": 0, "z": 0},
    {"x": 0, "y": "0", "z": 0},
    {"x": 0, "y": 0, "z": 0, "timestamp": "no"},
]


@given(
    st.lists(_anything, min_size=1, max_size=3),
    st.permutations(_FAULTY),
    st.booleans(),
)
def test_an_element_has_the_same_reason_wherever_it_is(
    values: list[object], faulty: list[object], packed: bool
) -> None:
    """After the first few faults, a fault is not described, and its reason is found without a second decoding."""
    encode = msgspec.msgpack.encode if packed else msgspec.json.encode
    before = faulty * 2 * FAULTS_DESCRIBED
    try:
        alone = [decode(encode([value]), MSGPACK if packed else None, NOW, TEN_YEARS)[0] for value in values]
        behind = decode(encode([*before, *values]), MSGPACK if packed else None, NOW, TEN_YEARS)[len(before) :]
    except OverflowError:  # MessagePack's integers end at 64 bits
        return
    assert [_fate(result) for result in behind] == [_fate(result) for result in alone]


def _fate(result: Measurement | Refusal) -> Measurement | Reason:
    return result if isinstance(result, Measurement) else result.reason


def test_the_first_faults_of_a_message_are_described_and_the_first_of_each_reason() -> None:
    elements = [b"0"] * 2 * FAULTS_DESCRIBED + [b'{"x":2000,"y":0,"z":0}'] * 2 + [READING]
    results = decode(b"[" + b",".join(elements) + b"]", None, NOW, TEN_YEARS)
    assert results[-1] == Measurement(1, 2, 3, None)
    described = [index for index, result in enumerate(results) if isinstance(result, Refusal) and result.detail]
    assert described == [*range(FAULTS_DESCRIBED), 2 * FAULTS_DESCRIBED]
