"""What is collected: a batch is full, and the connection paused, by what is to be written, not by what is refused."""

import asyncio
import sys
import time
import tracemalloc
from collections.abc import Iterable
from unittest.mock import Mock

import pytest
from mqtt5 import PublishPacket, QoS

from ingestor.batch import Batch
from ingestor.collector import Collector
from ingestor.delivery.acknowledgements import STARVED
from ingestor.delivery.backlog import HIGH_READINGS
from ingestor.delivery.deliveries import PACKET_BYTES, DeliveryLimits
from ingestor.delivery.journal import Journal
from ingestor.devices import Devices
from ingestor.metrics import Counts
from ingestor.mqtt.connection import NetworkConnection
from ingestor.session.processes import ALONE
from shared.settings import Settings
from tests.waiting import HANG_S

BAD = b"[" + b",".join([b"0"] * 10_000) + b"]"
GOOD = b"[" + b",".join([b'{"x":1,"y":2,"z":3}'] * 10_000) + b"]"


class Device1(Devices):
    """Knows one device."""

    def known(self, topic: str) -> int | None:
        return 1 if topic == "devices/1/stats" else None


async def collect(payload: bytes, count: int) -> tuple[Collector, NetworkConnection, Counts]:
    """Deliver the payload `count` times."""
    counts = Counts()
    settings = Settings(batch_linger_ms=0)
    collector = Collector(settings, Device1(register=False), Journal("test"), counts, ALONE.clock())
    connection = NetworkConnection(collector.deliver)
    collector.attach(connection)
    for number in range(count):
        collector.deliver(PublishPacket("devices/1/stats", payload, qos=QoS.AT_LEAST_ONCE, packet_id=number + 1))
    return collector, connection, counts


async def test_messages_of_refused_elements_share_a_batch_and_pause_nothing() -> None:
    """Each was a batch of its own, and six of them paused the connection: they kept other devices' readings waiting."""
    count = 2 * HIGH_READINGS // 10_000
    collector, connection, counts = await collect(BAD, count)
    assert not connection.is_paused
    batch = await collector.next()
    assert (len(batch.packet_ids), batch.received, batch.rows) == (count, count * 10_000, count)
    assert counts.in_flight == counts.received == count * 10_000
    collector.done(batch)
    assert counts.in_flight == 0


async def test_messages_of_good_readings_fill_batches_and_pause() -> None:
    collector, connection, _ = await collect(GOOD, HIGH_READINGS // 10_000 + 1)
    assert connection.is_paused
    for left in (4, 2, 0):
        batch = await collector.next()
        assert len(batch.packet_ids) == 2
        collector.done(batch)
        assert connection.is_paused is (left > HIGH_READINGS // 2 // 10_000)


async def test_refused_elements_that_wait_take_little_more_memory_than_their_payloads() -> None:
    """As while the database is away: what waits is bounded by its payloads. They took fifteen times as much."""
    count = 3
    await collect(BAD, 1)  # what is made once
    tracemalloc.start()
    try:
        waiting = await collect(BAD, count)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert waiting[2].received == 10_000 * count
    assert held < 6 * len(BAD) * count


class Acknowledged(NetworkConnection):
    """A connection to a broker that answers each PINGREQ at once."""

    is_open = True

    def __init__(self, collector: Collector) -> None:
        super().__init__(collector.deliver)
        self._transport = Mock()
        self.acknowledged: list[int] = []

    def acknowledge(self, packet_ids: Iterable[int]) -> None:
        self.acknowledged += packet_ids

    def ping(self) -> "asyncio.Future[float]":
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(time.monotonic())
        return answer


READING = b'{"x":1,"y":2,"z":3}'
NO_SILENCE = DeliveryLimits(silence_s=(0.0, 0.0))


async def holding(count: int, limits: DeliveryLimits = NO_SILENCE) -> tuple[Collector, Acknowledged]:
    """Return a collector that holds back the acknowledgements of `count` packets."""
    journal, settings = Journal("test"), Settings(batch_linger_ms=0)
    collector = Collector(settings, Device1(register=False), journal, Counts(), ALONE.clock(), limits)
    connection = Acknowledged(collector)
    collector.attach(connection)
    for number in range(count):
        collector.deliver(PublishPacket("devices/1/stats", READING, qos=QoS.AT_LEAST_ONCE, packet_id=number + 1))
    batch = await collector.next()
    journal.append(journal.next(bytes(batch.packets), batch.held))
    collector.done(batch)
    assert (connection.acknowledged, collector.holds_back) == ([], True)
    return collector, connection


async def test_messages_without_an_id_do_not_hold_acknowledgements_back() -> None:
    """A broker that waits for them goes on sending at QoS 0: no message at QoS 1 came any more."""
    collector, connection = await holding(5)
    while not connection.acknowledged:
        collector.deliver(PublishPacket("devices/1/stats", READING, qos=QoS.AT_MOST_ONCE))
        collector.done(await collector.next())
        await asyncio.sleep(0)
    assert connection.acknowledged == [1, 2, 3, 4, 5]


async def test_a_message_that_arrives_before_a_release_is_taken_with_it() -> None:
    """The release took the place of the open batch, which was never written."""
    collector, connection = await holding(5)
    collector.deliver(PublishPacket("devices/1/stats", READING, qos=QoS.AT_LEAST_ONCE, packet_id=6))
    collector.release()
    batch = collector.take()
    assert batch is not None
    assert (batch.packet_ids, batch.held) == ([6], 0)
    collector.done(batch)
    assert connection.acknowledged == [1, 2, 3, 4, 5, 6]


async def test_a_stop_keeps_acknowledgements_that_the_broker_may_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker is asked once: with a broker that does not answer, a stop took twice the time."""
    asked = 0

    def ping(_: Acknowledged) -> "asyncio.Future[float]":
        nonlocal asked
        asked += 1
        return asyncio.get_running_loop().create_future()

    monkeypatch.setattr(Acknowledged, "ping", ping)
    collector, connection = await holding(5, DeliveryLimits(answer_s=0.0))
    await collector.stop()
    assert (connection.acknowledged, asked) == ([], 1)


async def test_silence_during_a_stop_decides_nothing() -> None:
    """Packets that waited for the next ones of their redelivery were stored again, since the next ones are discarded
    while the ingestor stops."""
    collector, connection = await holding(5)
    collector.attach(connection)
    for packet_id in range(1, 4):
        collector.deliver(redelivered(packet_id))
    await collector.stop()
    for _ in range(3):
        collector.rest()
    assert (collector.is_restless, collector.take()) == (False, None)


async def test_a_connection_that_is_made_during_a_stop_delivers_nothing() -> None:
    """It was read until the end of the stop, and then closed with unread bytes, which discards acknowledgements."""
    collector, _ = await holding(5)
    stopping = asyncio.create_task(collector.stop())
    collector.done(await collector.next())
    await stopping
    again = Acknowledged(collector)
    collector.attach(again)
    again.release()
    receive(again, PublishPacket("devices/1/stats", READING).write())
    assert collector.take() is None


async def test_a_stop_discards_what_arrives_and_sends_what_was_held_back() -> None:
    collector, connection = await holding(5)
    stopping = asyncio.create_task(collector.stop())
    collector.done(await collector.next())
    await stopping
    assert connection.acknowledged == [1, 2, 3, 4, 5]
    receive(connection, PublishPacket("devices/1/stats", READING).write())
    assert collector.take() is None


def receive(connection: NetworkConnection, data: bytes) -> None:
    """Let the connection read the bytes."""
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))


def deliver_window(collector: Collector, number: int, committed_before: Batch | None = None) -> int:
    """Deliver and commit the 50 packets of a window; return how many acknowledgements are held back."""
    for packet_id in range(50 * number + 1, 50 * number + 51):
        collector.deliver(PublishPacket("devices/1/stats", READING, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id))
    if committed_before is not None:
        collector.done(committed_before)
    batch = collector.take()
    assert batch is not None
    collector.done(batch)
    return batch.held


def release(collector: Collector) -> None:
    """Let nothing arrive until the acknowledgements are released."""
    while (batch := collector.take()) is None:
        collector.rest()
    collector.done(batch)


def next_window_after(reply_s: float) -> DeliveryLimits:
    """Return limits with which the next message after a release is a reply, or is not."""
    return DeliveryLimits(silence_s=(0.0, 0.0), reply_s=reply_s)


@pytest.mark.parametrize(("reuses_ids", "releases"), [(False, STARVED), (True, 1)])
async def test_a_broker_that_waits_for_all_acknowledgements_is_found_out(reuses_ids: bool, releases: int) -> None:
    """HiveMQ answers the PINGREQ before it sends its next messages, so each of its windows took half a second."""
    collector, _ = await holding(8, next_window_after(reply_s=HANG_S))
    held = []
    while collector.holds_back:
        release(collector)
        held.append(deliver_window(collector, 0 if reuses_ids else len(held) + 1))
    assert held == [8] * (releases - 1) + [0]


async def test_a_broker_is_not_thought_to_wait_because_messages_follow_releases_by_chance() -> None:
    """After two such messages nothing was held back any more, so a crash stored readings of Mosquitto twice."""
    by_chance = next_window_after(reply_s=HANG_S)
    collector, _ = await holding(8, by_chance)
    for number in range(3 * STARVED):
        release(collector)
        is_by_chance = (number + 1) % STARVED > 0
        collector._deliveries._limits = by_chance if is_by_chance else next_window_after(reply_s=0.0)  # type: ignore[union-attr]
        assert deliver_window(collector, number + 1) == 8


async def test_a_message_that_arrives_before_a_release_is_sent_did_not_wait_for_it() -> None:
    collector, _ = await holding(8, next_window_after(reply_s=HANG_S))
    for number in range(2 * STARVED):
        while (released := collector.take()) is None:
            collector.rest()
        assert deliver_window(collector, number + 1, released) == 8


def redelivered(packet_id: int) -> PublishPacket:
    return PublishPacket("devices/1/stats", READING, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id, duplicate=True)


@pytest.mark.parametrize(("fit", "stored"), [(3, 5), (4, 0)])
async def test_what_waits_for_a_verdict_is_bounded(fit: int, stored: int) -> None:
    """A network that had swallowed acknowledgements brought back a window of ten thousand messages of any size: all of
    them waited in memory until their order was known, and nothing paused the connection."""
    size = PACKET_BYTES + len(READING) + len("devices/1/stats")
    collector, connection = await holding(5, DeliveryLimits(undecided_bytes=fit * size))
    collector.attach(connection)
    for packet_id in range(1, 6):
        collector.deliver(redelivered(packet_id))
    batch = collector.take()
    assert batch is not None
    assert batch.packet_ids == [1, 2, 3, 4, 5]
    assert len(batch.readings) == stored, "without their order they are stored again"


async def test_a_message_without_an_id_does_not_end_a_redelivery() -> None:
    """Where it came in the middle of one, what came after it was stored again."""
    collector, connection = await holding(5)
    collector.attach(connection)
    for packet_id in range(1, 6):
        collector.deliver(redelivered(packet_id))
        if packet_id == 3:
            collector.deliver(PublishPacket("devices/1/stats", READING, qos=QoS.AT_MOST_ONCE))
    batch = collector.take()
    assert batch is not None
    assert (batch.packet_ids, len(batch.readings)) == ([1, 2, 3, 4, 5], 1)


async def test_packets_that_wait_for_a_verdict_do_not_wait_for_others() -> None:
    """Where only such packets had arrived, nothing looked at them until the next probe of the database."""
    collector, connection = await holding(5)
    collector.attach(connection)
    following = asyncio.create_task(collector.next())
    await asyncio.sleep(0)
    for packet_id in range(1, 4):
        collector.deliver(redelivered(packet_id))
    async with asyncio.timeout(HANG_S):
        assert (await following).packet_ids == [1, 2, 3]


async def test_batches_at_qos_0_take_no_memory_once_they_are_committed() -> None:
    """Each left an entry in what is remembered of the connection."""
    collector, _ = await holding(5)

    def store(count: int) -> int:
        for _ in range(count):
            collector.deliver(PublishPacket("devices/1/stats", READING, qos=QoS.AT_MOST_ONCE))
            batch = collector.take()
            assert batch is not None
            collector.done(batch)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = store(100)
        assert store(5_000) - before < 5_000
    finally:
        tracemalloc.stop()


async def test_packets_that_wait_for_a_verdict_keep_no_property_that_nothing_reads() -> None:
    collector, connection = await holding(5)
    collector.attach(connection)
    packet = PublishPacket(
        *("devices/1/stats", READING),
        qos=QoS.AT_LEAST_ONCE,
        packet_id=1,
        duplicate=True,
        user_properties=[("note", "x" * 60_000)],
    )
    collector.deliver(packet)
    gone = sys.getrefcount(packet)
    assert gone == 2, "only this test has the packet"
