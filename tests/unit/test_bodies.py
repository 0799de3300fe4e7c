"""Bodies become records, or refusals that name the fields; nothing else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.bodies import decode
from query_api.devices import NewDevice
from query_api.intake import NewReading
from query_api.problems import INVALID_VALUE, MALFORMED, Refused

READINGS = NewReading | list[NewReading]
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
def test_a_reading_comes_back_as_it_was(given_reading: NewReading) -> None:
    assert decode(msgspec.json.encode(given_reading), READINGS) == given_reading
    assert decode(msgspec.json.encode([given_reading] * 2), READINGS) == [given_reading] * 2


def test_every_fault_is_named_with_its_place() -> None:
    good = {"device_id": 1, "x": 1, "y": 2, "z": 3}
    assert named({}) == ["device_id", "x", "y", "z"]
    assert named({**good, "x": "1", "z": None}) == ["x", "z"]
    assert named([good, {**good, "y": True}]) == ["[1].y"]
    assert named([good, "x", []]) == ["[1]", "[2]"]
    assert named("x") == ["body"]
    assert named([{"name": "a"}], NewDevice) == ["body"]
    assert named({"name": "a", "key": "a/b"}, NewDevice) == ["key"]


def test_a_fault_says_what_would_be_right() -> None:
    with pytest.raises(Refused) as raised:
        decode(b'{"device_id": 1, "x": 1000.5, "y": "2"}', READINGS)
    x, y, z = raised.value.errors
    assert "<= 1000.0" in x.detail
    assert "expected float, got str" in y.detail.lower()
    assert "is missing" in z.detail
    assert all("within -1000 and 1000" in fault.detail for fault in (x, y, z))
