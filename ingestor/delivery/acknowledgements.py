"""The packets of one connection, in the order of receipt, and which of them are acknowledged (ADR 34). Pure.

While the broker is not known to allocate packet ids in sequence, the last acknowledgements are held back until more
packets are committed: at the next connection their packets show what is stored (`redelivery`). They are also sent when
the connection has been idle for a moment, and before it ends in good order.
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
REMEMBERED = 20_000
"""The number of acknowledged packets that are recognized if the broker repeats them."""


class PacketState(Enum):
    """What became of a packet that came earlier on the same connection."""

    UNKNOWN = auto()
    UNACKNOWLEDGED = auto()
    ACKNOWLEDGED = auto()


class Acknowledgements:
    """What came over one connection.

    `window`: the number of packets that may be unacknowledged.
    `before`: the number of packets of earlier connections that were never acknowledged.
    `starved`: how often the broker was found to wait for acknowledgements that were held back.
    `states`: what `state` has found out; to be None once a packet has come that was not noted.
    """

    def __init__(self, window: int, before: int = 0, starved: int = 0) -> None:
        self.starved = starved
        self._before = before
        self._room = 0  # the most acknowledgements that were held back when the broker sent another packet
        self._limit = min(ENOUGH, window // SHARE_HELD)
        self.states: dict[int, tuple[int, PacketState]] | None = None
        self._held: list[int] = []
        self._in_order = 0  # packets received since the last one whose place in the order of sending is not known
        self._received: deque[Batch] = deque()
        self._committed: deque[bytes] = deque()
        self._committed_count = 0

    @property
    def held(self) -> int:
        """The number of committed packets that are not acknowledged."""
        return len(self._held)

    @property
    def may_starve(self) -> bool:
        """Whether the broker may be waiting for acknowledgements that are held back."""
        return len(self._held) > self._room

    def receive(self, batch: Batch) -> None:
        """The batch has begun to fill."""
        self._received.append(batch)

    def plan(self, batch: Batch, in_sequence: bool | None) -> int:
        """Return how many packets are to be unacknowledged once the batch is committed."""
        count = len(batch.packet_ids)
        if count:
            self._before = 0  # they come back in their order, and are counted as this connection's
            self._room = max(self._room, len(self._held))
        if self._before:
            return self._before
        self._in_order = count - batch.disordered if batch.disordered else self._in_order + count
        if in_sequence or batch.known or batch.is_release:
            return 0
        return min(self._limit >> 2 * self.starved, len(self._held) + count, self._in_order)

    def commit(self, batch: Batch) -> list[int]:
        """The batch is committed: return the packet ids to acknowledge, in order."""
        self._received.popleft()
        self._remember(batch)
        ids = self._held + batch.packet_ids
        cut = len(ids) - batch.held
        self._held = ids[cut:]
        return ids[:cut]

    def _remember(self, batch: Batch) -> None:
        self.states = None
        packets = bytes(batch.known + batch.packets)
        self._committed.append(packets)
        self._committed_count += len(batch.packet_ids)
        while self._committed_count > REMEMBERED and len(self._committed) > 1:
            self._committed_count -= len(list(unpack(self._committed.popleft())))

    def state(self, packet: Packet) -> PacketState:
        """Return what became of the packet, if it came earlier on this connection."""
        if self.states is None:
            self.states = dict(self._all_states())
        crc, state = self.states.get(packet[0], (0, PacketState.UNKNOWN))
        return state if crc == packet[1] else PacketState.UNKNOWN

    def _all_states(self) -> Iterable[tuple[int, tuple[int, PacketState]]]:
        held = set(self._held)
        for packet_id, crc in chain.from_iterable(map(unpack, self._committed)):
            yield packet_id, (crc, PacketState.UNACKNOWLEDGED if packet_id in held else PacketState.ACKNOWLEDGED)
        for batch in self._received:
            for packet_id, crc in chain(unpack(batch.known), unpack(batch.packets)):
                yield packet_id, (crc, PacketState.UNACKNOWLEDGED)

    def note(self, packet: Packet) -> None:
        """The packet has come: it is found if it comes again."""
        if self.states is not None:
            self.states[packet[0]] = (packet[1], PacketState.UNACKNOWLEDGED)
