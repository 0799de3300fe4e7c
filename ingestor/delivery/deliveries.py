"""The packets of one connection, from their arrival to their acknowledgement (ADR 34).

A packet with DUP set is repeated, if it came earlier on this connection, or else redelivered: `redelivery` decides
whether it is stored. Such a packet may have to wait until more have arrived.

While nothing arrives, three things are due, a step at a time. A PINGREQ shows that the broker has all acknowledgements,
and that nothing more is redelivered for now. Then acknowledgements that are held back are sent, if the broker may be
waiting for them. Last, another PINGREQ shows whether it was.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from enum import Enum, auto

import msgspec
import structlog

from ingestor.batch import Batch
from ingestor.delivery.acknowledgements import Acknowledgements, PacketState
from ingestor.delivery.journal import Journal, pack, unpack
from ingestor.delivery.redelivery import InOrder, Verdict
from ingestor.metrics import Counts
from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.packets import Delivered

_log = structlog.get_logger()


PATIENCE = 8
"""Moments without a message until acknowledgements are sent that the broker does not wait for."""
REPLY_S = 0.05
"""A message that arrives within this time, in seconds, after the release of acknowledgements was waiting for them."""
UNDECIDED_BYTES = 64 * 1024 * 1024
"""Payloads that may wait for a verdict. If there are more, their order proves nothing, and they are stored."""


class Redelivered(msgspec.Struct, frozen=True):
    """A packet that came with DUP set, with what is known of it.

    `is_recorded`: whether the journal records it with its batch.
    `is_in_order`: whether its place in the order of sending is known.
    `is_acknowledged`: whether it was acknowledged on this connection.
    """

    packet: Delivered
    is_stored: bool = False
    is_recorded: bool = True
    is_in_order: bool = True
    is_acknowledged: bool = False


class Step(Enum):
    """How far a silence has come."""

    NONE = auto()
    ASKED = auto()
    RELEASED = auto()
    DONE = auto()


class Deliveries:
    """What came over one connection.

    `window`: the number of packets that may be unacknowledged.
    `starved`: how often the broker was found to wait for acknowledgements that were held back.
    """

    def __init__(
        self, connection: NetworkConnection, journal: Journal, counts: Counts, window: int, starved: int = 0
    ) -> None:
        self.connection = connection
        self.acknowledgements = Acknowledgements(window, journal.held, starved)
        self.step = Step.NONE
        self._moments = 0  # in which nothing has arrived
        self._journal = journal
        self._counts = counts
        self._redelivery = journal.redelivery()
        self._undecided: deque[tuple[Delivered, bool]] = deque()  # with whether the id followed the last one
        self._undecided_bytes = 0
        self._answer: asyncio.Future[None] | None = None
        self._released_at = float("-inf")  # monotonic, in seconds; of acknowledgements that the broker may wait for
        journal.packet_ids.begin()

    # Packets

    @property
    def has_undecided(self) -> bool:
        """Whether packets wait for a verdict."""
        return bool(self._undecided)

    def note(self, packet_id: int) -> Iterator[Redelivered]:
        """A packet without DUP has come, so the redelivery is over: return all that waited."""
        yield from self.end()
        self._journal.packet_ids.note(packet_id)
        self.acknowledgements.states = None

    def again(self, packet: Delivered, packet_id: int) -> Iterator[Redelivered]:
        """A packet with DUP has come: return those that are decided now, in the order of receipt."""
        ids = self._journal.packet_ids
        (known,) = unpack(pack(packet))
        state = PacketState.UNKNOWN if ids.is_next(packet_id) else self.acknowledgements.state(known)
        if state is PacketState.UNKNOWN:
            self._undecided.append((packet, ids.is_next(packet_id)))
            self._undecided_bytes += len(packet.payload)
            ids.note_redelivered(packet_id)
            self.acknowledgements.note(known)
            yield from self._decide(self._redelivery.judge(known))
            if self._undecided_bytes > UNDECIDED_BYTES:
                yield from self.end()
        elif state is PacketState.ACKNOWLEDGED and not ids.in_sequence:
            # Perhaps a new message under the same id. It is not acknowledged again: if it is the old one, that
            # acknowledgement might meet another message, which has the id by then and is not stored.
            self._note_ambiguous(packet)
            yield Redelivered(packet, is_acknowledged=True)

    def end(self) -> Iterator[Redelivered]:
        """Nothing more is redelivered for now: return all that waited."""
        return self._decide(self._redelivery.end())

    def _decide(self, verdicts: list[Verdict]) -> Iterator[Redelivered]:
        for verdict in verdicts:
            packet, is_next = self._undecided.popleft()
            self._undecided_bytes -= len(packet.payload)
            if verdict is Verdict.STORED:
                # By order, the journal is to end with what is not acknowledged.
                yield Redelivered(packet, is_stored=True, is_recorded=isinstance(self._redelivery, InOrder))
                continue
            if verdict is Verdict.AMBIGUOUS:
                self._note_ambiguous(packet)
            if not is_next:
                self._journal.packet_ids.note_unordered()
            follows = is_next and self._journal.packet_ids.in_sequence is not False
            yield Redelivered(packet, is_in_order=self._redelivery.keeps_order or follows)

    def _note_ambiguous(self, packet: Delivered) -> None:
        self._counts.ambiguous += 1
        if self._counts.ambiguous == 1:
            _log.warning(
                "the broker redelivered a message that equals a stored one and may be a new one: it is stored again, "
                "as will others of its kind. A timestamp in the payload avoids this",
                topic=packet.topic,
                packet_id=packet.packet_id,
            )

    # Batches

    def plan(self, batch: Batch) -> None:
        """The batch is about to be written: decide how many acknowledgements are held back after it."""
        batch.held = self.acknowledgements.plan(batch, self._journal.packet_ids.in_sequence)

    def commit(self, batch: Batch) -> None:
        """The batch is committed: acknowledge what is not held back."""
        may_starve = self.acknowledgements.may_starve
        self.connection.acknowledge(self.acknowledgements.commit(batch))
        if batch.packet_ids:
            self.wake()
        if batch.is_release:
            self._ask(Step.RELEASED)
            if may_starve:
                self._released_at = time.monotonic()

    # Silence

    @property
    def is_restless(self) -> bool:
        """Whether `rest` is due once nothing has arrived for a moment."""
        if self.step is Step.DONE or not self.connection.is_open or self._journal.is_empty:
            return False
        return self.has_undecided or self.acknowledgements.held > 0

    def rest(self) -> bool:
        """Nothing has arrived for a moment: return whether the broker has answered since."""
        if self.step is Step.NONE:
            self._moments += 1
            if not (self.has_undecided or self._is_urgent or self._moments >= PATIENCE):
                return False
            self._ask(Step.ASKED)
        if self._answer is None or not self._answer.done() or self._answer.cancelled():
            return False
        if self.step is Step.RELEASED or not self.acknowledgements.held:
            self.step = Step.DONE
        return True

    @property
    def _is_urgent(self) -> bool:
        """Whether the broker may be waiting. A second time, a longer silence tells it from a device that is slow."""
        return self.acknowledgements.may_starve and not self.acknowledgements.starved

    def wake(self) -> None:
        """The silence is over."""
        is_unanswered = self.step is Step.RELEASED and self._answer is not None and not self._answer.done()
        if is_unanswered or time.monotonic() - self._released_at < REPLY_S:
            self.acknowledgements.starved += 1  # the broker was waiting for them
        self._released_at = float("-inf")
        self.step, self._answer, self._moments = Step.NONE, None, 0

    def _ask(self, step: Step) -> None:
        self.step, self._answer = step, self.connection.ping()
