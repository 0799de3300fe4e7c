"""Where in a payload a fault is."""

import msgspec
import pytest

from ingestor.payload.decode import decode
from ingestor.payload.measurements import Refusal
from ingestor.payload.places import places
from shared.readings.model import DAY, ElementFault, Microseconds, Reason

NOW: Microseconds = 1_769_860_800_000_000


def faults_of(payload: bytes, content_type: str | None = None) -> list[ElementFault]:
    """The faults that the ingestor finds in the payload."""
    results = decode(payload, content_type, NOW, 365 * DAY)
    return [
        ElementFault(index if len(results) > 1 else None, result.reason, result.detail)
        for index, result in enumerate(results)
        if isinstance(result, Refusal)
    ]


def shown(payload: bytes, content_type: str | None = None) -> list[bytes | int | None]:
    """The bytes at the place of each fault; where there are none, the place."""
    found = places(payload, content_type, faults_of(payload, content_type))
    assert all(place is None or 0 <= place.start <= place.end <= len(payload) for place in found)
    return [place and (payload[place.start : place.end] or place.start) for place in found]


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        (b'{"x": 5000, "y": 1, "z": 1}', b"5000"),
        (b'{"x": 1, "y": "1", "z": 1}', b'"1"'),
        (b'{"x": 1, "y": 1, "z": 1, "timestamp": "noon"}', b'"noon"'),
        (b'{"x": 1, "y": 1}', b'{"x": 1, "y": 1}'),
        (b'{"x": 1, "y": 1, "z": 1,}', b"}"),
        (b'{"x": 1, "y"', len(b'{"x": 1, "y"')),
        (b'"text"', b'"text"'),
        (b'{"x": 1, "y": 1, "z": 1, "note": "\xff"}', b"\xff"),
        (b'\xef\xbb\xbf{"x": 5000, "y": 1, "z": 1}\0', b"5000"),
        (b'\xef\xbb\xbf{"x": 1,, "y": 1, "z": 1}', b","),
    ],
)
def test_the_place_of_a_fault_in_an_object(payload: bytes, place: bytes | int) -> None:
    assert shown(payload) == [place]


def test_the_places_of_faults_in_an_array() -> None:
    payload = b'[{"x":1,"y":1,"z":1}, {"x":1,"y":1,"z":5000} , 7,{"x":1,"y":1}, {"x":1,"y":1,"z":1,"timestamp":1}]'
    assert shown(payload) == [b"5000", b"7", b'{"x":1,"y":1}', b"1"]
    cut = b'[{"x":1,"y":1,"z":1}, {"x":1'
    assert shown(cut) == [len(cut)]
    assert shown(b"[]") == [None]


def test_the_places_of_faults_in_messagepack() -> None:
    bad = {"x": 1.0, "y": "no", "z": 1.0}
    payload = msgspec.msgpack.encode([{"x": 1.0, "y": 1.0, "z": 1.0}, bad])
    assert shown(payload) == [msgspec.msgpack.encode("no")]
    assert shown(payload, "application/msgpack") == [msgspec.msgpack.encode("no")]
    assert shown(msgspec.msgpack.encode(bad)) == [msgspec.msgpack.encode("no")]
    assert shown(b"\x83\xa1x\x01") == [4]
    assert shown(b"\x81\xa1x\xc1") == [b"\xc1"]


def test_a_fault_of_the_message_has_no_place() -> None:
    payload = b'{"x": 1, "y": 1, "z": 1}'
    faults = [ElementFault(None, Reason.UNKNOWN_DEVICE, "x"), ElementFault(None, Reason.BAD_TOPIC, "x")]
    assert places(payload, None, faults) == [None, None]
    assert places(b"", None, faults) == [None, None]


def test_any_bytes_have_a_place() -> None:
    for payload in (b"", b"\0", b"\xef\xbb\xbf", b"[", b"[[", b"\xdc", b"\x90", b"[1e999]", b"[" * 5000, b"\xff" * 9):
        shown(payload)
        places(
            payload, None, [ElementFault(3, Reason.OUT_OF_RANGE, "x: 5000"), ElementFault(None, Reason.MALFORMED, "")]
        )
