"""The journal's bounds; what it proves of redelivered packets is in test_redelivery.py."""

import pytest
from mqtt5 import PublishPacket, QoS

from ingestor.delivery.journal import MAX_ENTRIES, SPAN, Entry, Journal, pack, unpack
from ingestor.delivery.redelivery import Verdict


def _publish(packet_id: int, payload: bytes) -> PublishPacket:
    return PublishPacket("devices/1/stats", payload, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id)


def test_the_journal_holds_its_span_and_not_much_more() -> None:
    journal = Journal("client")
    batch = b"".join(pack(_publish(n + 1, b"x")) for n in range(1000))
    for _ in range(100):
        journal.append(Entry(journal.next_no, batch))
    held = (journal.next_no - journal.oldest_no) * 1000
    assert SPAN <= held < SPAN + 1000


def test_entries_without_packets_do_not_pile_up() -> None:
    journal = Journal("client")
    for _ in range(MAX_ENTRIES + 10):
        journal.append(Entry(journal.next_no, b""))
    assert journal.next_no - journal.oldest_no == MAX_ENTRIES


def test_the_numbers_go_on_after_the_journal_is_void() -> None:
    journal = Journal("client")
    journal.replace([Entry(7, b""), Entry(8, b"")])
    journal.void()
    assert (journal.next_no, journal.oldest_no) == (9, 9)


def test_the_last_entry_says_what_is_not_acknowledged_and_how_ids_are_allocated() -> None:
    journal = Journal("client")
    journal.replace([Entry(7, pack(_publish(1, b"x")), held=0), Entry(8, pack(_publish(2, b"x")), 1, in_sequence=True)])
    assert (journal.held, journal.packet_ids.in_sequence) == (1, True)
    assert journal.packet_ids.is_ahead(3)


def test_ids_that_a_broker_skipped_count_towards_a_cycle() -> None:
    """A broker that drops messages skips their ids: an id may return within fewer packets than the journal holds."""
    journal = Journal("client", span=60_000)
    before = [_publish(number, b"x") for number in range(1, 11)]
    after = [_publish(number, b"x") for number in range(60_050, 60_060)]
    for packet in [*before, *after]:
        journal.append(Entry(journal.next_no, pack(packet), in_sequence=True))
    journal.packet_ids.in_sequence = True
    redelivery = journal.redelivery()
    assert redelivery.judge(_known(_publish(1, b"x"))) == [Verdict.NEW]
    redelivery = journal.redelivery()
    assert redelivery.judge(_known(after[8])) == []
    assert redelivery.judge(_known(after[9])) == [Verdict.STORED, Verdict.STORED]


@pytest.mark.parametrize(
    ("held", "in_sequence", "beginnings", "needs_next", "shared_needs_next"),
    [
        (1, None, 0, False, False),
        (1, None, 1, False, True),
        (0, None, 0, False, False),
        (0, True, 1, False, False),
        (0, False, 1, False, False),
    ],
)
def test_a_new_message_is_needed_after_a_connection_that_brought_nothing(
    held: int, in_sequence: bool | None, beginnings: int, needs_next: bool, shared_needs_next: bool
) -> None:
    stored = Entry(1, pack(_publish(1, b"x")), held, in_sequence)
    begun = [Entry(number, b"", held, in_sequence, begins=True) for number in range(2, beginnings + 2)]
    for may_hand_over, needed in ((False, needs_next), (True, shared_needs_next)):
        journal = Journal("client", may_hand_over=may_hand_over)
        assert not journal.needs_next
        journal.replace([stored, *begun])
        assert journal.needs_next is needed


def _known(packet: PublishPacket) -> tuple[int, int]:
    (known,) = unpack(pack(packet))
    return known
