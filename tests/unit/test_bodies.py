"""A body is decoded into a record, or refused with the names of the wrong fields."""

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.devices.handlers import NewDevice
from query_api.readings.intake import NewReading
from query_api.web.answers.problems import (
    INVALID_VALUE,
    MALFORMED,
    MAX_FAULTS,
    TOO_MANY_REQUESTS,
    UNAVAILABLE,
    Refused,
)
from query_api.web.requests.bodies import Room, decode, decode_long
from query_api.web.requests.wrong_bodies import EXPLAINED_BYTES, explained, require_length
from shared.encodings import BOM
from shared.readings.rules import MAX_READINGS

READINGS = NewReading | list[NewReading]
BOUNDED = NewReading | Annotated[list[NewReading], msgspec.Meta(min_length=1, max_length=MAX_READINGS)]
number = st.one_of(st.integers(), st.floats(), st.just(10**400))
scalar = st.one_of(st.none(), st.booleans(), number, st.text(max_size=5))
reading = st.dictionaries(st.sampled_from(["device_id", "x", "y", "z", "timestamp", "other"]), scalar)
anything = st.recursive(scalar | reading, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner))


def named(body: Any, record: Any = READINGS) -> list[str]:
    with pytest.raises(Refused) as raised:
        decode(json.dumps(body).encode(), record)
    assert raised.value.problem is INVALID_VALUE
    return [fault.field for fault in raised.value.errors]


@given(anything)
def test_any_json_is_a_record_or_a_refusal_that_names_a_field(body: Any) -> None:
    try:
        found = decode(json.dumps(body).encode(), READINGS)
    except Refused as error:
        refused = error
    else:
        assert isinstance(found, NewReading) or all(isinstance(element, NewReading) for element in found)
        return
    assert refused.problem is MALFORMED or refused.errors  # json.dumps writes NaN, which is not JSON


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_a_refusal(body: bytes) -> None:
    for record in (READINGS, NewDevice):
        with pytest.raises(Refused):
            decode(body, record)


@given(st.builds(NewReading, st.integers(), *[st.floats(-1000, 1000)] * 3, st.none() | st.floats(0, 1e10)))
def test_a_reading_is_decoded_unchanged(given_reading: NewReading) -> None:
    assert decode(msgspec.json.encode(given_reading), READINGS) == given_reading
    assert decode(msgspec.json.encode([given_reading] * 2), READINGS) == [given_reading] * 2


def test_every_fault_names_its_field_and_index() -> None:
    good = {"device_id": 1, "x": 1, "y": 2, "z": 3}
    assert named({}) == ["device_id", "x", "y", "z"]
    assert named({**good, "x": "1", "z": None}) == ["x", "z"]
    assert named([good, {**good, "y": True}]) == ["[1].y"]
    assert named([good, "x", []]) == ["[1]", "[2]"]
    assert named("x") == ["body"]
    assert named([{"name": "a"}], NewDevice) == ["body"]
    assert named({"name": "a", "key": "a/b"}, NewDevice) == ["key"]


def refusal(body: bytes, record: Any = READINGS) -> Refused:
    with pytest.raises(Refused) as raised:
        decode(body, record)
    return raised.value


def test_a_fault_states_the_expected_value() -> None:
    refused = refusal(b'{"device_id": 1, "x": 1000.5, "y": "2"}')
    assert [fault.detail for fault in refused.errors] == [
        "expected a number from -1000 to 1000, got 1000.5",
        "expected a number from -1000 to 1000, got '2'",
        "is missing: expected a number from -1000 to 1000",
    ]
    assert refused.detail == "x: expected a number from -1000 to 1000, got 1000.5; and 2 more"


def test_no_fault_contains_a_pattern_or_a_type() -> None:
    for body, record in (
        (b'{"name": "a", "key": "a/b"}', NewDevice),
        (b'{"name": " "}', NewDevice),
        (b'{"device_id": 1, "x": 1, "y": 1, "z": 1, "timestamp": 1e400}', READINGS),
        (b'{"device_id": %b, "x": 1, "y": 1, "z": 1}' % (b"9" * 5000), READINGS),
    ):
        detail = refusal(body, record).detail
        assert "expected " in detail
        assert not any(word in detail for word in ("^", "regex", "float", "str ", "`", "$"))


def test_the_faults_are_all_counted_and_some_are_listed() -> None:
    refused = refusal(b"[" + b",".join([b"{}"] * 100) + b"]")
    assert refused.detail.endswith("; and 399 more")
    assert len(refused.errors) == MAX_FAULTS


def test_half_of_a_surrogate_pair_is_not_called_truncated() -> None:
    for escape in (rb"\ud800", rb"\udc00", rb"\ud800\u0041", rb"\ud800 and more"):
        assert "half of a character" in refusal(b'{"name": "%b"}' % escape, NewDevice).detail
    assert "empty" in refusal(b" ", NewDevice).detail
    assert "truncated" in refusal(b'{"name": "', NewDevice).detail


def test_a_byte_order_mark_is_ignored_and_wide_encodings_are_named() -> None:
    body = b'{"device_id":1,"x":1,"y":2,"z":3}'
    assert decode(b"\xef\xbb\xbf" + body, READINGS) == decode(body, READINGS)
    for encoding in ("utf-16", "utf-16-be", "utf-32", "utf-32-le"):
        with pytest.raises(Refused, match=r"UTF-(16|32)") as raised:
            decode(body.decode().encode(encoding), READINGS)
        assert raised.value.problem is MALFORMED


def test_room_for_long_bodies_is_bounded_in_total_and_for_each_caller() -> None:
    room = Room(total=100, each=60)
    with room.room("a", 60), room.room("b", 30):
        for caller, length, problem in (("a", 1, TOO_MANY_REQUESTS), ("c", 11, UNAVAILABLE)):
            with pytest.raises(Refused) as raised, room.room(caller, length):
                pass
            assert raised.value.problem is problem
        with room.room("c", 10):
            pass
    with room.room("c", 60):
        pass


def wrong(body: bytes, record: Any = READINGS) -> Refused:
    """Return the refusal of a long body. It is that of a short one."""
    with pytest.raises(Refused) as raised:
        asyncio.run(decode_long(body, record))
    return raised.value


def outcome(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except Refused as error:
        return error.problem, error.detail, error.errors


@given(anything)
def test_a_long_body_is_decoded_or_refused_as_a_short_one(body: Any) -> None:
    text = json.dumps(body).encode()
    assert outcome(lambda: asyncio.run(decode_long(text, READINGS))) == outcome(lambda: decode(text, READINGS))


def test_one_wrong_reading_among_many_is_named() -> None:
    body = [{"device_id": 1, "x": 1, "y": 2, "z": 3}] * MAX_READINGS
    refused = wrong(json.dumps([*body[:-1], {**body[0], "y": "2"}]).encode(), BOUNDED)
    assert [fault.field for fault in refused.errors] == ["[9999].y"]


def test_a_longer_array_is_refused_before_its_elements_are_decoded() -> None:
    reading = b'{"device_id":1,"x":1,"y":2,"z":3}'
    for element in (reading, b"[]", b"1", b'{"a":[]}'):
        refused = wrong(b"[" + b",".join([element] * (MAX_READINGS + 1)) + b"]", BOUNDED)
        assert refused.detail == "body: expected an array of 1 to 10,000, got a longer one"
    many = b'{"device_id":1,"x":1,"y":2,"z":3,"other":[{},{},{}]}'
    found = asyncio.run(decode_long(b"[" + b",".join([many] * MAX_READINGS) + b"]", BOUNDED))
    assert len(found) == MAX_READINGS


def test_a_longer_array_after_a_byte_order_mark_is_not_decoded_either() -> None:
    body = BOM + json.dumps([{}] * (MAX_READINGS + 1)).encode()
    with pytest.raises(Refused):
        require_length(body, BOUNDED)


def test_the_faults_of_long_elements_are_found_in_short_parts() -> None:
    element = {"device_id": 1, "x": ["q"] * 8_000, "y": 0, "z": 0}
    assert len(json.dumps(element)) < EXPLAINED_BYTES
    parts = list(explained(json.dumps([element] * 40).encode(), BOUNDED, msgspec.ValidationError()))
    assert [fault.field for part in parts for fault in part] == [f"[{at}].x" for at in range(40)]
    assert max(map(len, parts)) <= 2


def test_of_a_long_object_the_first_fault_is_named() -> None:
    other = b'"other":[' + b"[]," * EXPLAINED_BYTES + b"[]]"
    assert [fault.field for fault in wrong(b'{"device_id":1,"x":"1","y":2,' + other + b"}").errors] == ["x"]
    faults = wrong(b'[{"device_id":1,"x":1,"y":2,"z":"3",' + other + b"},{}]").errors
    assert [fault.field for fault in faults] == ["[0].z", "[1].device_id", "[1].x", "[1].y", "[1].z"]
    assert wrong(b'{"device_id":1,' + other).problem is MALFORMED
