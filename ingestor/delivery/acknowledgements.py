"""The packets of one connection, in the order of receipt, and which of them are acknowledged (ADR 34). Pure.

While the broker is not known to allocate packet ids in sequence, the last acknowledgements are held back until more
packets are committed: at the next connection their packets show what is stored (`redelivery`). They are also sent when
the connection has been idle for a moment, and before a clean disconnect.
"""

from collections import deque
from collections.abc import Iterable
from enum import Enum, auto
from itertools import chain

from ingestor.batch import Batch
from ingestor.delivery.journal import unpack
from ingestor.delivery.redelivery import ENOUGH, Packet

SHARE_HELD = 4
"""At most one in four of the packets that may be unacknowledged is held back."""
STARVED = 8
"""Consecutive releases that the broker was waiting for, after which no acknowledgement is held back any more. The
silence before a release has a random duration, so it is followed by a message of a device by chance in one case of 15.
One release is enough where ids are reused, since such a broker is not promised that nothing is stored twice."""


class PacketState(Enum):
    """The state of a packet that may have arrived earlier on the same connection."""

    UNKNOWN = auto()
    UNACKNOWLEDGED = auto()
    ACKNOWLEDGED = auto()


class Acknowledgements:
    """The packets of one connection.

    `window`: the number of packets that may be unacknowledged.
    `ids`: the number of packet ids in a cycle.
    `before`: the number of packets of earlier connections that were never acknowledged.
    `starved`: the number of consecutive releases that the broker was waiting for.
    """

    def __init__(self, window: int, ids: int, before: int = 0, starved: int = 0) -> None:
        self.starved = starved
        self._before = before
        self._limit = min(ENOUGH, window // SHARE_HELD)
        self._recent = ids // 2  # packets that are recognized if they are repeated
        self._states: dict[int, tuple[int, PacketState, int]] | None = None  # CRC, state and position, by packet id
        self._position = 0
        self._held: list[int] = []
        self._in_order = 0  # packets received since the last one whose place in the order of sending is not known
        self._undecided: deque[Packet] = deque()
        self._received: deque[Batch] = deque()
        self._committed: deque[bytes] = deque()
        self._committed_count = 0

    @property
    def held(self) -> int:
        """The number of committed packets that are not acknowledged."""
        return len(self._held)

    # Batches

    def receive(self, batch: Batch) -> None:
        """Add a batch that begins to fill."""
        self._received.append(batch)

    def plan(self, batch: Batch, in_sequence: bool | None) -> int:
        """Return the number of packets that stay unacknowledged once the batch is committed."""
        count = len(batch.packet_ids)
        if count:
            self._before = 0  # they come back in their order, and are counted as this connection's
        if self._before:
            return self._before
        self._in_order = count - batch.disordered if batch.disordered else self._in_order + count
        if in_sequence or batch.known or batch.is_release or self._is_starved(in_sequence):
            return 0
        return min(self._limit, len(self._held) + count, self._in_order)

    def _is_starved(self, in_sequence: bool | None) -> bool:
        return self.starved >= (1 if in_sequence is False else STARVED)

    def commit(self, batch: Batch) -> list[int]:
        """Take note that the batch is committed; return the packet ids to acknowledge, in order."""
        self._received.popleft()
        self._remember(batch)
        ids = self._held + batch.packet_ids
        cut = len(ids) - batch.held
        self._held = ids[cut:]
        return ids[:cut]

    def _remember(self, batch: Batch) -> None:
        self._states = None
        if not batch.packet_ids:
            return
        self._committed.append(bytes(batch.known + batch.packets))
        self._committed_count += len(batch.packet_ids)
        while self._committed_count > self._recent and len(self._committed) > 1:
            self._committed_count -= len(list(unpack(self._committed.popleft())))

    # Repeated packets

    def note(self) -> None:
        """Take note that a packet without DUP has arrived, which is in a batch."""
        self._states = None

    def wait(self, packet: Packet) -> None:
        """Add a packet that waits for a verdict."""
        self._undecided.append(packet)
        if self._states is not None:
            self._set(packet, PacketState.UNACKNOWLEDGED)

    def decide(self) -> None:
        """Take note that the oldest packet that waits is about to be added to a batch."""
        self._undecided.popleft()

    def state(self, packet: Packet) -> PacketState:
        """Return the state of the packet, if it arrived recently on this connection.

        An id returns within half a cycle of ids only if it was free, or if its packet is repeated. After a whole cycle
        it is another message: Mosquitto 2.0.11 overruns the cycle while it redelivers.
        """
        if self._states is None:
            self._states, self._position = {}, 0
            for one, state in self._all_states():
                self._set(one, state)
        crc, state, position = self._states.get(packet[0], _NEVER)
        is_recent = self._position - position < self._recent
        return state if is_recent and crc == packet[1] else PacketState.UNKNOWN

    def _set(self, packet: Packet, state: PacketState) -> None:
        assert self._states is not None
        self._position += 1
        self._states[packet[0]] = (packet[1], state, self._position)

    def _all_states(self) -> Iterable[tuple[Packet, PacketState]]:
        held = set(self._held)
        for packet in chain.from_iterable(map(unpack, self._committed)):
            yield packet, PacketState.UNACKNOWLEDGED if packet[0] in held else PacketState.ACKNOWLEDGED
        for batch in self._received:
            for packet in chain(unpack(batch.known), unpack(batch.packets)):
                yield packet, PacketState.UNACKNOWLEDGED
        for packet in self._undecided:
            yield packet, PacketState.UNACKNOWLEDGED


_NEVER = (0, PacketState.UNKNOWN, 0)
