"""Which of the packets that a broker delivers again are stored (ADR 34). Pure.

A packet with DUP set that equals a packet of the journal, in its id and in the CRC of its topic and payload, need not
be that packet. If the broker received the acknowledgement, the id was free, and a new message may have got it. Devices
at rest send equal payloads. If a new message is mistaken for a stored one, a reading is lost. So equality alone proves
nothing.

Two facts prove it:

- *Ids in sequence* (`InSequence`): an id returns only after all others. Within less than one cycle of ids an equal
  packet is the same packet, if the redelivery reaches the journal's end.
- *Packets that were never acknowledged* (`InOrder`): their ids are in use, so a packet under such an id is the same
  packet. The ingestor holds back the last acknowledgements of each batch. If those packets come back in the order
  of their receipt, the broker keeps the order; the packets before them are stored, and the packets after them are new.

Everything else that equals a packet of the journal is ambiguous, and is stored again. While nothing shows whether ids
are in sequence, it waits for the next new message, whose id may show that (`Undetermined`).
"""

from collections import deque
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

    def end(self, next_id: int | None = None, shows_sequence: bool = False) -> list[Verdict]:
        """Return verdicts on all packets without one: nothing more is redelivered for now.

        `next_id`: the packet id of the packet without DUP that ends the redelivery. `shows_sequence`: whether it shows
        that ids are allocated in sequence.
        """


class InSequence:
    """The rule for a broker that allocates ids in sequence.

    `known`: the last packets of the journal, less than a cycle of ids. `ids`: the number of ids in a cycle.

    The ingestor acknowledges in the order of receipt. So a broker that keeps its state and the order redelivers stored
    packets up to the journal's end, and then new ones. Mosquitto 2.0.11 overruns Receive Maximum and even the cycle of
    ids while a backlog drains, so behind the journal's end all are new, whatever their ids.

    If the redelivery does not reach the journal's end, ids have gone back or have skipped nearly a cycle, and packets
    that equal those of the journal are ambiguous: a broker that was restored from an older state uses ids again. The
    broker may have dropped the last packet as expired. Then a packet behind it shows that the redelivery reaches it.

    If a redelivery goes backwards, the order is not kept, and all packets without a verdict are ambiguous.
    """

    def __init__(self, known: Sequence[Packet], ids: int = PACKET_IDS) -> None:
        self.keeps_order = False
        self._known = dict(known)
        self._end = known[-1] if known else None
        self._ids = ids
        self._last: int | None = None
        self._goes_back = False
        self._is_past = not known  # the redelivery is behind the journal's end
        self._pending: list[bool] = []  # whether each equals a packet of the journal

    def judge(self, packet: Packet) -> list[Verdict]:
        packet_id, crc = packet
        passes_end = self._passes_end(packet_id)
        self._goes_back |= self._last is not None and not self._is_ahead(packet_id, self._last)
        self._last = packet_id
        if self._is_past and not self._goes_back:
            return [Verdict.NEW]
        equals = self._known.get(packet_id) == crc
        self._pending.append(equals and not passes_end)
        if self._goes_back:
            return self._verdicts(Verdict.AMBIGUOUS)
        if passes_end or packet == self._end:
            self._is_past = True
            return self._verdicts(Verdict.STORED)
        if not equals and self._is_at_end_or_behind(packet_id):
            self._is_past = True
            return self._verdicts(Verdict.AMBIGUOUS)
        return [] if self._pending[0] else self._verdicts(Verdict.AMBIGUOUS)

    def end(self, next_id: int | None = None, shows_sequence: bool = False) -> list[Verdict]:
        is_reached = next_id is not None and not self._goes_back and self._passes_end(next_id)
        return self._verdicts(Verdict.STORED if is_reached else Verdict.AMBIGUOUS)

    def _verdicts(self, of_equal: Verdict) -> list[Verdict]:
        verdicts = [of_equal if equals else Verdict.NEW for equals in self._pending]
        self._pending.clear()
        return verdicts

    def _passes_end(self, packet_id: int) -> bool:
        """Whether the id of the journal's end is between the last packet and this one."""
        if self._end is None or self._last is None or not self._is_ahead(packet_id, self._last):
            return False
        return 0 < (self._end[0] - self._last) % self._ids < (packet_id - self._last) % self._ids

    def _is_at_end_or_behind(self, packet_id: int) -> bool:
        return self._end is not None and (packet_id == self._end[0] or self._is_ahead(packet_id, self._end[0]))

    def _is_ahead(self, packet_id: int, of: int) -> bool:
        return 0 < (packet_id - of) % self._ids <= self._ids // 2


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

    def end(self, next_id: int | None = None, shows_sequence: bool = False) -> list[Verdict]:
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


class Undetermined:
    """The rule while nothing shows whether a broker allocates ids in sequence.

    `by_order` decides what it can. What it finds ambiguous waits, with all packets behind it, for the first packet
    without DUP. If that shows ids in sequence, `by_sequence` decides. `most`: the number of packets that may wait for
    it. Once stored, they must fit into the journal together with all others that are not acknowledged.
    """

    def __init__(self, by_order: InOrder, by_sequence: InSequence, most: int = PACKET_IDS // 4) -> None:
        self.keeps_order = False
        self._by_order = by_order
        self._by_sequence = by_sequence
        self._most = most
        self._is_over = False
        self._returned = 0
        self._of_order: deque[Verdict] = deque()  # not returned yet
        self._of_sequence: list[Verdict] = []  # also on packets whose verdict was returned

    def judge(self, packet: Packet) -> list[Verdict]:
        self._of_order += self._by_order.judge(packet)
        self._of_sequence += self._by_sequence.judge(packet)
        verdicts = []
        while self._of_order and (self._is_over or self._of_order[0] is not Verdict.AMBIGUOUS):
            verdicts.append(self._of_order.popleft())
        decided = self._return(verdicts)
        return decided if len(self._of_order) <= self._most else [*decided, *self.end()]

    def end(self, next_id: int | None = None, shows_sequence: bool = False) -> list[Verdict]:
        self._is_over = True
        of_order = [*self._of_order, *self._by_order.end()]
        self._of_order.clear()
        self._of_sequence += self._by_sequence.end(next_id)
        self.keeps_order |= shows_sequence
        return self._return(self._of_sequence[self._returned :] if shows_sequence else of_order)

    def _return(self, verdicts: list[Verdict]) -> list[Verdict]:
        self._returned += len(verdicts)
        self.keeps_order |= self._by_order.keeps_order
        return verdicts
