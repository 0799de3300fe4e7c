"""The journal against a model that knows the truth: histories of delivery, commit, crash and reconnect."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mqtt5 import PublishPacket, QoS

from ingestor.journal import MAX_ENTRIES, SPAN, Entry, Journal, pack

LAST_PACKET_ID = 13
SPAN_HERE = 9
"""Small, so that packet ids come round within a history; like the real ones, the span is below the ids."""


class Broker:
    """A broker's side of a session: packet ids in sequence, what it has no PUBACK for, and what is on the wire.

    Like Mosquitto 2.0.11 it overruns Receive Maximum, and even the packet ids: it may send any number.
    """

    def __init__(self) -> None:
        self.next_id = 1
        self.unacknowledged: deque[tuple[int, int]] = deque()
        self.wire: deque[tuple[int, PublishPacket]] = deque()

    def send(self, number: int, payload: bytes) -> None:
        packet_id = self.next_id
        self.next_id = packet_id % LAST_PACKET_ID + 1
        self.unacknowledged.append((packet_id, number))
        self.wire.append((number, _publish(packet_id, payload, duplicate=False)))

    def redeliver(self, payloads: list[bytes]) -> None:
        self.wire = deque(
            (number, _publish(packet_id, payloads[number], duplicate=True)) for packet_id, number in self.unacknowledged
        )


def _publish(packet_id: int, payload: bytes, *, duplicate: bool) -> PublishPacket:
    return PublishPacket("devices/1/stats", payload, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id, duplicate=duplicate)


class History(RuleBasedStateMachine):
    """Messages are numbered; most share a payload, which says nothing of which one it is."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.journal = Journal("client", SPAN_HERE)
        self.database: list[Entry] = []
        self.payloads: list[bytes] = []
        self.fresh: list[tuple[int, PublishPacket]] = []
        self.to_acknowledge: list[int] = []
        self.acknowledged: list[int] = []  # written by us, not yet seen by the broker
        self.stored: list[int] = []
        self.lost: set[int] = set()

    @rule(payload=st.sampled_from([b"a", b"a", b"a", b"b"]), count=st.integers(1, 6))
    def devices_publish(self, payload: bytes, count: int) -> None:
        for _ in range(count):
            self.payloads.append(payload)
            self.broker.send(len(self.payloads) - 1, payload)

    @rule(count=st.integers(1, 4))
    def packets_arrive(self, count: int) -> None:
        for _ in range(min(count, len(self.broker.wire), self._room())):
            number, packet = self.broker.wire.popleft()
            assert packet.packet_id is not None
            self.to_acknowledge.append(packet.packet_id)
            if not (packet.duplicate and self.journal.is_stored(packet)):
                self.fresh.append((number, packet))

    def _room(self) -> int:
        """How many may arrive: what is committed and unknown to the broker stays within the span."""
        return SPAN_HERE - len(self.acknowledged) - len(self.to_acknowledge)

    @rule()
    def the_batch_is_committed(self) -> None:
        self.stored += [number for number, _ in self.fresh]
        entry = Entry(self.journal.next_no, b"".join(pack(packet) for _, packet in self.fresh))
        self._write(entry)
        self.acknowledged += self.to_acknowledge
        self.fresh, self.to_acknowledge = [], []

    def _write(self, entry: Entry) -> None:
        self.journal.append(entry)
        self.database = [e for e in [*self.database, entry] if e.batch_no >= self.journal.oldest_no]

    @rule(data=st.data())
    def some_acknowledgements_arrive(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, len(self.acknowledged)))
        for packet_id in self.acknowledged[:count]:
            assert self.broker.unacknowledged.popleft()[0] == packet_id, "acknowledged in order of receipt"
        del self.acknowledged[:count]

    @rule(crash=st.booleans())
    def the_connection_breaks(self, crash: bool) -> None:
        """What is collected is committed first, unless the process dies with it."""
        if crash:
            self.journal = Journal("client", SPAN_HERE)
            self.journal.replace(self.database)
        else:
            self.the_batch_is_committed()
        self._begin()

    @precondition(lambda self: not self.fresh)
    @rule()
    def the_broker_loses_the_session(self) -> None:
        self.lost |= {number for _, number in self.broker.unacknowledged} - set(self.stored)
        self.broker = Broker()
        self.journal.void()
        self.database.clear()
        self._begin()

    def _begin(self) -> None:
        self.fresh, self.to_acknowledge, self.acknowledged = [], [], []
        self._write(Entry(self.journal.next_no, b""))
        self.journal.expect_redelivery()
        self.broker.redeliver(self.payloads)

    @invariant()
    def nothing_is_stored_twice(self) -> None:
        assert len(self.stored) == len(set(self.stored))

    def teardown(self) -> None:
        while self.broker.wire:
            self.packets_arrive(len(self.broker.wire))
            self.the_batch_is_committed()
            for _ in self.acknowledged:
                self.broker.unacknowledged.popleft()
            self.acknowledged.clear()
        self.the_batch_is_committed()
        assert set(self.stored) | self.lost == set(range(len(self.payloads))), "nothing is lost"


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=300, stateful_step_count=50)


def test_the_journal_holds_its_span_and_not_much_more() -> None:
    journal = Journal("client")
    batch = b"".join(pack(_publish(n + 1, b"x", duplicate=False)) for n in range(1000))
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
