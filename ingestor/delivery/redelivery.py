"""Which of the packets that a broker delivers again are stored (ADR 34). Pure.

A packet with DUP set that equals a packet of the journal, in its id and in the CRC of its topic and payload, need not
be that packet. If the broker received the acknowledgement, the id was free, and a new message may have got it. Devices
at rest send equal payloads. If a new message is mistaken for a stored one, a reading is lost. So equality alone proves
nothing.

Two facts prove it:

- *Ids in sequence* (`InSequence`): an id returns only after all others. Within less than one cycle of ids an equal
  packet is the same packet.
- *Packets that were never acknowledged* (`InOrder`): their ids are in use, so a packet under such an id is the same
  packet. The ingestor holds back the last acknowledgements of each batch. If those packets come back in the order
  of their receipt, the broker keeps the order; the packets before them are stored, and the packets after them are new.

Everything else that equals a packet of the journal is ambiguous, and is stored again.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from ingestor.delivery.packet_ids import FIRST_ID, PACKET_IDS

Packet = tuple[int, int]
"""A packet id, and the CRC-32 of topic and payload."""

ENOUGH = 8
"""The number of packets in order that prove that a broker keeps the order: of 40,320 orders of eight, one is right."""


class Verdict(Enum):
    """Verdict on a redelivered packet."""

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
    `is_restored`: whether the broker may have been restored from an older state, and have used ids again since.

    The ingestor acknowledges in the order of receipt. So a broker that keeps the order redelivers the end of the
    journal, without messages that have expired, and then what is new. Mosquitto 2.0.11 overruns Receive Maximum and
    even the cycle of ids while a backlog drains: after a packet behind the journal's end, all are new. If a redelivery
    goes backwards, the order proves nothing, and the id alone decides: brokers that do so keep to Receive Maximum.

    A broker that was restored redelivers packets of the middle of the journal. If it may have used their ids again,
    they are ambiguous.
    """

    def __init__(self, known: Sequence[Packet], ids: int = PACKET_IDS, is_restored: bool = False) -> None:
        self.keeps_order = False
        self._known = dict(known)
        self._recent = known[-(ids // 2) :]
        self._end = known[-1][0] if known else None
        self._half = ids // 2
        self._ids = ids
        self._last: int | None = None
        self._is_ordered = True
        self._is_past = False  # a packet has come that is behind the journal's end
        self._is_proven = not is_restored
        self._pending: list[bool] = []  # whether each equals a packet of the journal

    def judge(self, packet: Packet) -> list[Verdict]:
        self._pending.append(self._equals(packet))
        if self._is_past or packet[0] == self._end:
            self._is_proven = True
        return self._verdicts(Verdict.STORED) if self._is_proven else []

    def end(self) -> list[Verdict]:
        return self._verdicts(Verdict.AMBIGUOUS)

    def _verdicts(self, of_equal: Verdict) -> list[Verdict]:
        verdicts = [of_equal if equals else Verdict.NEW for equals in self._pending]
        self._pending.clear()
        return verdicts

    def _equals(self, packet: Packet) -> bool:
        packet_id, crc = packet
        if self._last is not None and not self._is_ahead(packet_id, self._last) and self._is_ordered:
            self._is_ordered = False
            self._known = dict(one for one in self._recent if one[0] in self._known)
        self._last = packet_id
        if self._is_ordered and self._is_past:
            return False
        if self._known.get(packet_id) == crc:
            del self._known[packet_id]
            return True
        if self._end is not None and self._is_ahead(packet_id, self._end):
            self._is_past = True
        return False

    def _is_ahead(self, packet_id: int, of: int) -> bool:
        return 0 < (packet_id - of) % self._ids <= self._half


class InOrder:
    """The rule for a broker that may reuse an id immediately, or whose behavior is not known yet.

    `known`: the last packets of the journal; `held`: how many of them, at the end, were never acknowledged.
    `reuses_ids`: whether the broker is known to use an id again.
    """

    def __init__(self, known: Sequence[Packet], held: int, reuses_ids: bool = False) -> None:
        self.keeps_order = False
        self._reuses_ids = reuses_ids
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
        """All that was never acknowledged has come back, in order.

        Where ids are reused, a longer run of ascending ids from the first one on proves nothing: new messages may have
        got the first ids, and the broker may redeliver in the order of ids, or under new ids.
        """
        count = len(self._pending)
        before = count - self._held
        ids = [packet_id for packet_id, _ in self._pending]
        if self._reuses_ids and before and ids[0] == FIRST_ID and ids == sorted(ids):
            return self.end()
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
