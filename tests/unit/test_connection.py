"""One network connection: the packets and their order do not depend on the sizes of the reads."""

import asyncio
import itertools
from collections.abc import Callable, Sequence

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt5 import ConnAckPacket, DisconnectPacket, DisconnectReasonCode, PubAckPacket, PublishPacket, QoS

from ingestor.mqtt.connection import BUFFER_BYTES, NetworkConnection
from ingestor.mqtt.publish import MalformedPacket


class Transport(asyncio.Transport):
    """A transport that records the written data, and whether reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True


def connected(deliver: Callable[[PublishPacket], None]) -> tuple[NetworkConnection, Transport]:
    connection, transport = NetworkConnection(deliver), Transport()
    connection.connection_made(transport)
    connection.release()
    return connection, transport


def feed(connection: NetworkConnection, data: bytes) -> None:
    """Pass the bytes as the event loop does, in the buffers that the connection provides."""
    while data:
        buffer = connection.get_buffer(-1)
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        connection.buffer_updated(size)
        data = data[size:]


def publishes(payloads: Sequence[bytes]) -> list[PublishPacket]:
    return [
        PublishPacket("devices/1/stats", payload, qos=QoS.AT_LEAST_ONCE, packet_id=number)
        for number, payload in enumerate(payloads, 1)
    ]


_sizes = st.one_of(st.integers(0, 100), st.integers(BUFFER_BYTES // 2, 3 * BUFFER_BYTES))


@given(
    payloads=st.lists(_sizes.map(bytes), max_size=6),
    cuts=st.lists(st.floats(0, 1), max_size=12),
    holds=st.sets(st.integers(1, 6)),
)
def test_packets_are_the_same_however_they_are_cut(payloads: list[bytes], cuts: list[float], holds: set[int]) -> None:
    sent, seen = publishes(payloads), []
    data = b"".join(packet.write() for packet in sent)
    bounds = sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})

    def deliver(packet: PublishPacket) -> None:
        seen.append(packet)
        if packet.packet_id in holds:
            connection.pause()

    async def scenario() -> None:
        nonlocal connection
        connection, transport = connected(deliver)
        for start, end in itertools.pairwise(bounds):
            feed(connection, data[start:end])
            assert transport.reading is not connection.is_paused
            while connection.is_paused:
                connection.release()

    connection: NetworkConnection
    asyncio.run(scenario())
    assert seen == sent


async def test_what_follows_the_connack_is_held_until_it_is_released() -> None:
    seen: list[PublishPacket] = []
    connection, transport = connected(seen.append)
    (packet,) = publishes([b"x"])
    feed(connection, ConnAckPacket(session_present=True).write() + packet.write())
    assert (await connection.connack).session_present
    assert (seen, transport.reading) == ([], False)
    connection.release()
    assert (seen, transport.reading) == ([packet], True)


async def test_acknowledgements_are_one_write_in_the_order_given() -> None:
    connection, transport = connected(lambda packet: None)
    connection.acknowledge([3, 1, 65_535])
    assert transport.written == b"".join(PubAckPacket(n).write() for n in (3, 1, 65_535))
    connection.close()
    connection.acknowledge([4])
    assert transport.written == b"".join(PubAckPacket(n).write() for n in (3, 1, 65_535))


@pytest.mark.parametrize(
    "data",
    [b"\x00\x00", b"\x32\xff\xff\xff\xff\x01", b"\x3f\x02\x00\x00", mqtt5.PingReqPacket().write()],
    ids=["no such packet", "endless length", "QoS 3", "a client's packet"],
)
async def test_what_is_no_packet_of_a_broker_ends_the_connection(data: bytes) -> None:
    connection, transport = connected(lambda packet: None)
    feed(connection, data)
    assert transport.ended
    with pytest.raises(MalformedPacket):
        await connection.closed


async def test_an_error_in_the_receiver_is_not_swallowed() -> None:
    def broken(packet: PublishPacket) -> None:
        raise LookupError("a fault of ours")

    connection, transport = connected(broken)
    feed(connection, publishes([b"x"])[0].write())
    assert transport.ended
    with pytest.raises(LookupError, match="a fault of ours"):
        await connection.closed


async def test_the_brokers_farewell_is_kept() -> None:
    connection, _ = connected(lambda packet: None)
    feed(connection, DisconnectPacket(reason_code=DisconnectReasonCode.SESSION_TAKEN_OVER).write())
    connection.connection_lost(ConnectionResetError())
    farewell = await connection.closed
    assert farewell is not None
    assert farewell.reason_code == DisconnectReasonCode.SESSION_TAKEN_OVER


async def test_a_connection_that_is_lost_before_the_answer_wakes_who_waits_for_it() -> None:
    connection, _ = connected(lambda packet: None)
    connection.connection_lost(None)
    assert connection.connack.cancelled()
    assert await connection.closed is None


async def test_what_comes_before_the_connack_waits_until_the_connection_is_released() -> None:
    """When it resumes a session, Artemis delivers as soon as it has read the CONNECT."""
    delivered: list[PublishPacket] = []
    connection = NetworkConnection(delivered.append)
    connection.connection_made(Transport())
    first, second, third = publishes([b"1", b"2", b"3"])
    feed(connection, first.write() + second.write() + ConnAckPacket(session_present=True).write() + third.write())
    assert connection.connack.done()
    assert delivered == []
    connection.release()
    assert delivered == [first, second, third]
