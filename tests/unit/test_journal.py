"""The journal against a model that knows the truth: histories of delivery, commit, crash and reconnect."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mqtt5 import PublishPacket, QoS

from ingestor.journal import SPAN, Entry, Journal, pack

LAST_PACKET_ID = 65_535


class Broker:
    """A broker's side of a session: packet ids in sequence, and what it has no PUBACK for."""

    def __init__(self) -> None:
        self.next_id = LAST_PACKET_ID - 5  # so that it comes round within a history
        self.unacknowledged: deque[tuple[int, int]] = deque()

    def deliver(self, number: int, payload: bytes) -> PublishPacket:
        packet_id = self.next_id
        self.next_id = packet_id % LAST_PACKET_ID + 1
        self.unacknowledged.append((packet_id, number))
        return _publish(packet_id, payload, duplicate=False)


def _publish(packet_id: int, payload: bytes, *, duplicate: bool) -> PublishPacket:
    return PublishPacket("devices/1/stats", payload, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id, duplicate=duplicate)


class History(RuleBasedStateMachine):
    """Messages are numbered; many share a payload, which alone says nothing of which one it is."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.journal = Journal("client")
        self.database: list[Entry] = []
        self.payloads: list[bytes] = []
        self.received: list[tuple[int, PublishPacket]] = []
        self.stored: list[int] = []
        self.written: list[int] = []  # acknowledged by us, not yet seen by the broker
        self.lost: set[int] = set()

    @rule(payload=st.sampled_from([b"a", b"b"]))
    def publish(self, payload: bytes) -> None:
        number = len(self.payloads)
        self.payloads.append(payload)
        self.received.append((number, self.broker.deliver(number, payload)))

    @rule()
    def commit(self) -> None:
        fresh = [(n, p) for n, p in self.received if not (p.duplicate and self.journal.is_stored(p))]
        self.stored += [n for n, _ in fresh]
        entry = Entry(self.journal.next_no, pack([p for _, p in self.received]))
        self.database.append(entry)
        self.journal.append(entry)
        self.database = [e for e in self.database if e.batch_no >= self.journal.oldest_no]
        self.written += [p.packet_id for _, p in self.received if p.packet_id is not None]
        self.received.clear()

    @rule(data=st.data())
    def some_acknowledgements_arrive(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, len(self.written)))
        for packet_id in self.written[:count]:
            assert self.broker.unacknowledged.popleft()[0] == packet_id, "acknowledged in order of receipt"
        del self.written[:count]

    @rule(crash=st.booleans())
    def the_connection_breaks(self, crash: bool) -> None:
        """What is collected is committed first, unless the process dies with it."""
        if not crash:
            self.commit()
        self.written.clear()
        self.received.clear()
        if crash:
            self.journal = Journal("client")
            self.journal.replace(self.database)
        self._begin(session_present=True)

    @precondition(lambda self: not self.received)
    @rule()
    def the_broker_loses_the_session(self) -> None:
        self.written.clear()
        self.lost |= {n for _, n in self.broker.unacknowledged} - set(self.stored)
        self.broker = Broker()
        self._begin(session_present=False)

    def _begin(self, *, session_present: bool) -> None:
        if not session_present:
            self.journal.void()
            self.database.clear()
        entry = Entry(self.journal.next_no, b"")
        self.database.append(entry)
        self.journal.append(entry)
        self.journal.expect_redelivery()
        self.received = [
            (number, _publish(packet_id, self.payloads[number], duplicate=True))
            for packet_id, number in self.broker.unacknowledged
        ]

    @invariant()
    def nothing_is_stored_twice(self) -> None:
        assert len(self.stored) == len(set(self.stored))

    def teardown(self) -> None:
        self.commit()
        assert set(self.stored) | self.lost == set(range(len(self.payloads))), "nothing is lost"


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)


def test_the_journal_holds_its_span_and_not_much_more() -> None:
    journal = Journal("client")
    batch = [_publish(n + 1, b"x", duplicate=False) for n in range(1000)]
    for _ in range(100):
        journal.append(Entry(journal.next_no, pack(batch)))
    held = (journal.next_no - journal.oldest_no) * 1000
    assert SPAN <= held < SPAN + 1000


def test_entries_without_packets_do_not_pile_up() -> None:
    journal = Journal("client")
    for _ in range(SPAN + 10):
        journal.append(Entry(journal.next_no, b""))
    assert journal.next_no - journal.oldest_no == SPAN


def test_the_numbers_go_on_after_the_journal_is_void() -> None:
    journal = Journal("client")
    journal.replace([Entry(7, b""), Entry(8, b"")])
    journal.void()
    assert (journal.next_no, journal.oldest_no) == (9, 9)
