"""Packets that the codec refuses: any PUBLISH with a packet id can be stored as a dead letter and acknowledged."""

import struct

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt5 import PublishPacket, QoS

from ingestor.mqtt.packets import Packet, RefusedPublish, read_checked, refused
from ingestor.mqtt.publish import MalformedPacket, split
from shared.postgres.storable import original
from shared.readings.model import Reason
from tests.malformed import field, publish, user_property

reported_by_the_codec = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""Before it panics, the codec makes Python report the reason."""


def read(data: memoryview) -> tuple[Packet, int]:
    """Read a packet as a connection does."""
    try:
        return mqtt5.read(data)
    except IndexError:
        raise
    except BaseException as error:  # noqa: BLE001  # a panic is not an Exception
        return refused(data, error)


_bytes = st.binary(max_size=8)
_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
_topics = _texts.filter(lambda topic: topic and not set(topic) & set("#+"))
_packets = st.builds(
    PublishPacket,
    _topics,
    st.binary(max_size=200),
    qos=st.just(QoS.AT_LEAST_ONCE),
    packet_id=st.integers(1, 65_535),
    duplicate=st.booleans(),
    message_expiry_interval=st.none() | st.integers(0, 2**32 - 1),
    content_type=st.none() | _texts,
    response_topic=st.none() | _topics,
    correlation_data=st.none() | _bytes,
    subscription_ids=st.lists(st.integers(1, 268_435_455), max_size=2),
    user_properties=st.lists(st.tuples(_texts, _texts), max_size=2),
)


@given(_packets, _bytes)
def test_a_well_formed_packet_is_what_the_codec_says_it_is(packet: PublishPacket, next_: bytes) -> None:
    data = packet.write()
    assert read_checked(memoryview(data + next_)) == (packet, len(data))
    parts = split(memoryview(data + next_))
    assert (parts.topic, parts.packet_id, parts.payload) == (packet.topic.encode(), packet.packet_id, packet.payload)
    assert parts.is_duplicate is packet.duplicate
    assert parts.content_type == (None if packet.content_type is None else packet.content_type.encode())
    assert (parts.size, parts.ill_formed) == (len(data), "")


@given(_packets, st.data())
def test_a_packet_that_is_not_complete_is_waited_for(packet: PublishPacket, data: st.DataObject) -> None:
    whole = packet.write()
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(IndexError):
        read_checked(memoryview(part))


@given(_bytes, _bytes, _bytes, _bytes, st.integers(1, 65_535), st.binary(max_size=50))
def test_texts_of_any_bytes_are_kept(
    topic: bytes, content_type: bytes, response: bytes, note: bytes, packet_id: int, payload: bytes
) -> None:
    properties = b"\x03" + field(content_type) + b"\x08" + field(response) + user_property(b"note", note)
    data = publish(b"t" + topic, payload, properties, packet_id)
    packet, size = read_checked(memoryview(data))
    assert isinstance(packet, PublishPacket | RefusedPublish)
    assert (packet.packet_id, packet.payload, size) == (packet_id, payload, len(data))
    if isinstance(packet, RefusedPublish):
        assert packet.reason is (Reason.MALFORMED if _is_utf8(topic) else Reason.BAD_TOPIC)
        assert "not UTF-8" in packet.detail
        if b"#" not in topic:
            assert original(packet.topic) == b"t" + topic
    else:
        assert all(_is_utf8(text) for text in (topic, content_type, response, note))


def _is_utf8(data: bytes) -> bool:
    return data.decode(errors="ignore").encode() == data


@given(st.binary(min_size=1, max_size=60), st.sampled_from([0x30, 0x32, 0x3A, 0x34, 0x36]))
def test_any_bytes_are_a_packet_or_no_packet(body: bytes, first: int) -> None:
    """Return a PUBLISH with the correct length."""
    data = memoryview(bytes([first, len(body)]) + body)
    try:
        packet, size = read_checked(data)
    except ValueError as error:
        try:
            packet, size = refused(data, error)
        except MalformedPacket:
            return
    assert isinstance(packet, PublishPacket | RefusedPublish)
    assert size == 2 + len(body)


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (publish(b"devices/\xff/stats"), Reason.BAD_TOPIC, "the topic is not UTF-8"),
        (publish(b"devices/\xed\xa0\x80/stats"), Reason.BAD_TOPIC, "the topic is not UTF-8"),
        (publish(properties=b"\x03" + field(b"\xff")), Reason.MALFORMED, "the content type is not UTF-8"),
        (publish(properties=b"\x08" + field(b"\xff")), Reason.MALFORMED, "the response topic is not UTF-8"),
        (publish(properties=user_property(b"\xff", b"a")), Reason.MALFORMED, "a user property is not UTF-8"),
        (publish(properties=user_property(b"a", b"\xc0\x80")), Reason.MALFORMED, "a user property is not UTF-8"),
        (publish(properties=b"\x03" + field(b"a") + b"\x03" + field(b"b")), Reason.MALFORMED, "Duplicate value"),
        (publish(properties=b"\x7f\x01"), Reason.MALFORMED, "Invalid PropertyType"),
        (publish(properties=b"\x0b\x00"), Reason.MALFORMED, "Subscription ID"),
        (publish(b""), Reason.MALFORMED, "Topic alias must be set"),
    ],
)
@reported_by_the_codec
def test_what_the_codec_refuses_is_named_and_can_be_acknowledged(data: bytes, reason: Reason, detail: str) -> None:
    packet, size = read(memoryview(data))
    assert isinstance(packet, RefusedPublish)
    assert (packet.packet_id, packet.reason, size) == (7, reason, len(data))
    assert packet.payload.endswith(b'{"x":1,"y":2,"z":3}')
    assert detail in packet.detail


@pytest.mark.parametrize(
    "data",
    [
        b"\x32\x04\x00\xff\x00\x01",  # a topic that is longer than the packet
        b"\x32\x04\x00\x02ab",  # no packet id
        b"\x36" + publish(b"\xff")[1:],  # QoS 3
        b"\x20\x07\x00\x00\x04\x1f\x00\x01\xff",  # a CONNACK whose reason is not UTF-8
    ],
)
@reported_by_the_codec
def test_what_cannot_be_acknowledged_is_no_packet(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        read(memoryview(data))


def test_other_packets_are_the_codecs() -> None:
    data = mqtt5.PingRespPacket().write()
    assert read_checked(memoryview(data)) == (mqtt5.PingRespPacket(), len(data))
    with pytest.raises(IndexError):
        read_checked(memoryview(b""))
    assert struct.unpack(">H", field(b"ab")[:2]) == (2,)
