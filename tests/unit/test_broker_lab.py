"""Parts of the broker tests: packets of their client, their counts, their tables."""

import asyncio
from collections import Counter
from pathlib import Path

import mqtt5
import msgspec
import pytest

from tests.brokers import lab, packets, plans
from tests.brokers.packets import Delivery
from tests.brokers.probe import allocation, compare, order
from tests.brokers.report import Report
from tests.brokers.stream import Count
from tests.brokers.tap import tapped


def test_its_packets_are_what_the_codec_reads() -> None:
    connect = packets.connect("me", clean=False, receive_maximum=7, login=("user", "secret"))
    read, size = mqtt5.read(connect)
    assert isinstance(read, mqtt5.ConnectPacket)
    assert size == len(connect)
    assert (read.client_id, read.receive_max, read.username, read.clean_start) == ("me", 7, "user", False)
    read, _ = mqtt5.read(packets.publish(65_535, "devices/1/stats", b"x" * 300))
    assert isinstance(read, mqtt5.PublishPacket)
    assert (read.packet_id, read.topic, read.payload) == (65_535, "devices/1/stats", b"x" * 300)


def test_it_reads_what_the_codec_writes() -> None:
    connack = mqtt5.ConnAckPacket(session_present=True, receive_max=20, shared_subscription_available=False)
    publish = packets.publish(9, "a/b", b"y" * 200)
    whole = bytearray(connack.write() + publish + publish[:5])
    (_, answer), (first, delivery) = packets.split(whole)
    assert packets.read_connack(answer) == packets.Answer(
        0, True, {packets.RECEIVE_MAXIMUM: 20, packets.SHARED_SUBSCRIPTIONS: 0}
    )
    assert packets.read_publish(first, delivery) == Delivery(9, False, "a/b", b"y" * 200)
    assert whole == publish[:5]


def test_a_message_has_a_number_where_its_payload_is_no_name() -> None:
    (first, body) = next(packets.split(bytearray(packets.publish(9, "a/b", b"y", 70_000))))
    assert packets.read_publish(first, body) == Delivery(9, False, "a/b", b"y", 70_000)
    read, _ = mqtt5.read(packets.publish(9, "a/b", b"y", 70_000))
    assert isinstance(read, mqtt5.PublishPacket)
    assert read.user_properties == [("number", "00011170")]


async def test_the_tap_tells_what_was_delivered_from_what_was_acknowledged() -> None:
    """Packet id 1 is reused: its second acknowledgement is for the second message."""
    sent = b"".join(
        packets.publish(packet_id, "a/b", b"y", number) for packet_id, number in ((1, 10), (2, 20), (1, 30))
    )

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(broker, "127.0.0.1")
    async with server, tapped(*server.sockets[0].getsockname()) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        await reader.readexactly(len(sent))
        writer.write(packets.acknowledge(1))
        writer.close()
        assert await reader.read() == b""
    assert (tap.delivered, tap.acknowledged) == ({10, 20, 30}, {30})


def test_a_count_says_whose_loss_it_is() -> None:
    assert str(Count(100, 0, 3, 0, 0, 0, 0, 0)) == "0 / 3 of 100"
    lost = Count(published=100, lost=5, twice=0, broken=1, owed=4, undelivered=3, lost_beside=0, twice_beside=0)
    whose = "the broker did not deliver 4: 3 never, 1 not again; acknowledged by Devicestat and not stored: 1"
    assert str(lost) == f"5 / 0 of 100 ({whose})"


def test_what_a_redelivery_shows() -> None:
    first = [Delivery(number, False, "t", b"%d" % number) for number in range(1, 4)]
    same = [Delivery(number, True, "t", b"%d" % number) for number in range(1, 5)]
    words = compare(first, same)
    assert (words["redelivers"], words["ids of a redelivery"], words["order"]) == ("3 of 3", "3 of 3 the same", "kept")
    assert words["DUP"] == "3 of 3, on first deliveries 1 of 1"
    assert order([3, 2, 1]) == "reversed"
    assert order([2, 3, 1]).startswith("other")
    assert allocation([7, 8, 9]) == "in sequence"
    assert allocation([1, 1, 2, 1]) == "reused after their acknowledgement: 2 ids for 4 messages"


@pytest.mark.parametrize("name", plans.PLANS)
def test_a_plan_can_be_counted_by_value(name: str) -> None:
    values = Counter(map(plans.PLANS[name], range(3 * plans.RUN)))
    assert set(values.values()) == {plans.RUN if name == "equal readings" else 1}
    assert len({value.payload + value.topic.encode() for value in values}) == len(values)


def test_a_file_names_the_brokers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "brokers.toml"
    file.write_text('[[brokers]]\nname = "a"\nstart = "run {directory} {port}"\n')
    monkeypatch.setenv(lab.VARIABLE, str(file))
    assert lab.entries() == [lab.Entry(name="a", start="run {directory} {port}")]
    file.write_text('[[brokers]]\nname = "a"\nbegin = "run"\n')
    with pytest.raises(msgspec.ValidationError, match="begin"):
        lab.entries()


def test_the_report_is_a_table() -> None:
    report = Report()
    report.add("Counts", "kills", "Mosquitto", "0 / 0")
    report.add("Counts", "cuts", "Artemis", "0 / 7")
    assert list(report.lines()) == [
        "### Counts",
        "",
        "|  | Mosquitto | Artemis |",
        "| --- | --- | --- |",
        "| kills | 0 / 0 | - |",
        "| cuts | - | 0 / 7 |",
        "",
    ]
