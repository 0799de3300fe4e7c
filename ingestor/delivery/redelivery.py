"""Which of the packets that a broker delivers again are stored (ADR 34). Pure.

A packet with DUP set that equals a packet of the journal, in its id and in the CRC of its topic and payload, need not
be that packet. If the broker received the acknowledgement, the id was free, and a new message may have got it. Devices
at rest send equal payloads. To take a new message for a stored one loses a reading, so equality alone proves nothing.

Two facts prove it:

- *Ids in sequence* (`InSequence`): an id returns only after all others. Within less than one cycle of ids a packet that
  is equal and in its place is the same packet.
- *Packets that were never acknowledged* (`InOrder`): their ids are in use, so a packet under such an id is the same
  packet. The ingestor holds back the last acknowledgements of each batch. If those packets come back in the order
  of their receipt, the broker keeps the order; what it redelivers before them is stored, and what follows is new.

Everything else that equals a packet of the journal is ambiguous, and is stored again.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from ingestor.delivery.packet_ids import PACKET_IDS

Packet = tuple[int, int]
"""A packet id, and the CRC-32 of topic and payload."""

ENOUGH = 8
"""The number of packets in order that prove that a broker keeps the order: of 40,320 orders of eight, one is right."""


class Verdict(Enum):
    """What is known of a redelivered packet."""

    NEW = auto()
    STORED = auto()
    AMBIGUOUS = auto()


class Redelivery(Protocol):
    """The packets that come with DUP set on one connection, in the order of receipt.

    `keeps_order`: whether the broker was seen to redeliver in the order in which it sent.
    """

    keeps_order: bool

    def judge(self, packet: Packet) -> list[Verdict]:
        """Take the next packet. Return verdicts on the oldest packets without one, in order; perhaps none yet."""

    def end(self) -> list[Verdict]:
        """Return verdicts on all packets without one: nothing more is redelivered for now."""


class InSequence:
    """The rule for a broker that allocates ids in sequence.

    `known`: the last packets of the journal, less than a cycle of ids. `ids`: the number of ids in a cycle.

    The ingestor acknowledges in the order of receipt. So a broker that keeps the order redelivers the end of the
    journal, packet by packet, and then what is new. Mosquitto 2.0.11 overruns Receive Maximum and even the cycle of ids
    while a backlog drains; since it keeps the order, place decides. Brokers that redeliver in another order
    keep to Receive Maximum; since their ids are unique, the id decides.
    """

    def __init__(self, known: Sequence[Packet], ids: int = PACKET_IDS) -> None:
        self.keeps_order = False
        self._known = known
        self._half = ids // 2
        self._ids = ids
        self._at: int | None = None
        self._last: int | None = None
        self._by_id: dict[int, int] | None = None

    def judge(self, packet: Packet) -> list[Verdict]:
        return [Verdict.STORED if self._is_stored(packet) else Verdict.NEW]

    def end(self) -> list[Verdict]:
        return []

    def _is_stored(self, packet: Packet) -> bool:
        packet_id, crc = packet
        if self._by_id is None and self._descends(packet_id):
            self._by_id = dict(self._known[-self._half :])
        self._last = packet_id
        if self._by_id is not None:
            return self._by_id.get(packet_id) == crc
        if self._at is None:
            self._at = _last_index(self._known, packet)
        if self._at < len(self._known) and self._known[self._at] == packet:
            self._at += 1
            return True
        self._at = len(self._known)
        return False

    def _descends(self, packet_id: int) -> bool:
        return self._last is not None and not 0 < (packet_id - self._last) % self._ids <= self._half


class InOrder:
    """The rule for a broker that may use an id again at once, or of which nothing is known yet.

    `known`: the last packets of the journal; `held`: how many of them, at the end, were never acknowledged.
    """

    def __init__(self, known: Sequence[Packet], held: int) -> None:
        self.keeps_order = False
        self._known = known
        self._held = held
        self._is_over = held == 0
        self._pending: list[Packet] = []
        self._starts: Sequence[int] = range(len(known) - held + 1)
        self._guesses: frozenset[Packet] | None = None

    def judge(self, packet: Packet) -> list[Verdict]:
        if self._is_over:
            return [self._guess(packet)]
        self._pending.append(packet)
        known, offset = self._known, len(self._pending) - 1
        self._starts = [at for at in self._starts if at + offset < len(known) and known[at + offset] == packet]
        if not self._starts:
            return self.end()
        if self._starts[-1] + offset + 1 == len(known):
            return self._found()
        return []

    def end(self) -> list[Verdict]:
        self._is_over = True
        verdicts = [self._guess(packet) for packet in self._pending]
        self._pending.clear()
        return verdicts

    def _found(self) -> list[Verdict]:
        """All that was never acknowledged has come back, in order."""
        count = len(self._pending)
        before = count - self._held
        self.keeps_order = count >= ENOUGH
        proven = before == 0 or self.keeps_order
        self._is_over = True
        self._pending.clear()
        if proven:
            self._guesses = frozenset()  # what follows is new
        return [Verdict.STORED if proven else Verdict.AMBIGUOUS] * before + [Verdict.STORED] * self._held

    def _guess(self, packet: Packet) -> Verdict:
        if self._guesses is None:
            self._guesses = frozenset(self._known)
        return Verdict.AMBIGUOUS if packet in self._guesses else Verdict.NEW


def _last_index(known: Sequence[Packet], packet: Packet) -> int:
    """Return the last place of the packet; the length if it has none."""
    return next((at for at in range(len(known) - 1, -1, -1) if known[at] == packet), len(known))
