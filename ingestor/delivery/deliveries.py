"""The packets of one connection, from their arrival to their acknowledgement (ADR 34).

A packet with DUP set is a repetition if it arrived earlier on this connection. Otherwise it is redelivered, and
`redelivery` decides whether it is stored. The decision may need more packets, so the packet may wait.

While nothing arrives, timed steps run. The response to a PINGREQ shows that the broker has all acknowledgements, and
that it redelivers nothing more for now. Then acknowledgements that are held back are released. A message that follows
the release immediately shows that the broker was waiting for them.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterator
from enum import Enum, auto

import msgspec
import structlog
from mqtt5 import PublishPacket

from ingestor.batch import Batch
from ingestor.delivery.acknowledgements import Acknowledgements, PacketState
from ingestor.delivery.journal import Journal, pack, unpack
from ingestor.delivery.redelivery import InSequence, Verdict
from ingestor.metrics import Counts
from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.packets import Delivered

_log = structlog.get_logger()


MOMENT_S = 0.05
"""Time, in seconds, between two looks for the answer of the broker."""
PACKET_BYTES = 600
"""Memory of a packet without its payload, topic and content type."""


class DeliveryLimits(msgspec.Struct, frozen=True):
    """How long the broker is waited for, and how much waits for it.

    `silence_s`: least and most time without a packet, in seconds, before acknowledgements are released. It varies at
    random, so that a device that publishes periodically is not taken for a broker that waits.
    `reply_s`: a message that arrives within this time, in seconds, after the answer to a release was waiting for it.
    `answer_s`: the time, in seconds, for which a PINGRESP is awaited before the connection ends.
    `undecided_bytes`: memory of the packets that wait for a verdict. If they take more, their order proves nothing, and
    they are stored.
    """

    silence_s: tuple[float, float] = (0.25, 1.0)
    reply_s: float = 0.05
    answer_s: float = 5.0
    undecided_bytes: int = 64 * 1024 * 1024


class Redelivered(msgspec.Struct, frozen=True):
    """A packet with DUP set, with the results of its comparisons.

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
    """The progress of a silence."""

    NONE = auto()
    ASKED = auto()
    RELEASED = auto()
    DONE = auto()


class Deliveries:
    """The packets of one connection.

    `window`: the number of packets that may be unacknowledged.
    `starved`: the number of consecutive releases that the broker was waiting for.
    """

    def __init__(
        self,
        connection: NetworkConnection,
        journal: Journal,
        counts: Counts,
        window: int,
        starved: int,
        limits: DeliveryLimits,
    ) -> None:
        self.connection = connection
        self.acknowledgements = Acknowledgements(window, journal.ids, journal.held, starved)
        self.step = Step.NONE
        self._limits = limits
        self._journal = journal
        self._counts = counts
        self._redelivery = journal.redelivery()
        self._undecided: deque[tuple[Delivered, bool]] = deque()  # with whether the id was ahead of the last one
        self._undecided_bytes = 0
        self._answer: asyncio.Future[float] | None = None
        self._released: asyncio.Future[float] | None = None  # the answer after the last release
        self._confirmation: asyncio.Future[float] | None = None  # the answer after a candidate of `packet_ids`
        self._is_paused = False
        self._begin_silence()
        journal.packet_ids.begin()

    # Packets

    @property
    def has_undecided(self) -> bool:
        """Whether packets wait for a verdict."""
        return bool(self._undecided)

    def note(self, packet_id: int) -> Iterator[Redelivered]:
        """Take a packet without DUP, which ends the redelivery: return all packets that waited."""
        ids, answer = self._journal.packet_ids, self._confirmation
        yield from self._decide(self._redelivery.end(packet_id, ids.shows_sequence(packet_id)))
        ids.note(packet_id, answer is not None and answer.done() and not answer.cancelled())
        if ids.is_candidate and answer is None:
            self._confirmation = self.connection.ping()
        self.acknowledgements.note()

    def again(self, packet: Delivered, packet_id: int) -> Iterator[Redelivered]:
        """Take a packet with DUP set: return the packets that are decided now, in the order of receipt."""
        ids = self._journal.packet_ids
        (known,) = unpack(pack(packet))
        state = self.acknowledgements.state(known)
        if state is PacketState.UNKNOWN:
            self._undecided.append((_lean(packet), ids.is_ahead(packet_id)))
            self._undecided_bytes += _size(packet)
            ids.note_redelivered(packet_id)
            self.acknowledgements.wait(known)
            yield from self._decide(self._redelivery.judge(known))
            if self._undecided_bytes > self._limits.undecided_bytes:
                yield from self.end()
        elif state is PacketState.ACKNOWLEDGED and not ids.in_sequence:
            # Perhaps a new message under the same id. It is not acknowledged again: if it is the old one, that
            # acknowledgement might meet another message, which has the id by then and is not stored.
            self._note_ambiguous(packet)
            yield Redelivered(packet, is_acknowledged=True)

    def end(self) -> Iterator[Redelivered]:
        """End the redelivery for now: return all packets that waited."""
        return self._decide(self._redelivery.end())

    def _decide(self, verdicts: list[Verdict]) -> Iterator[Redelivered]:
        for verdict in verdicts:
            packet, is_ahead = self._undecided.popleft()
            self._undecided_bytes -= _size(packet)
            self.acknowledgements.decide()
            if verdict is Verdict.STORED:
                # Unless ids are in sequence, the journal is to end with what is not acknowledged.
                yield Redelivered(packet, is_stored=True, is_recorded=not isinstance(self._redelivery, InSequence))
                continue
            if verdict is Verdict.AMBIGUOUS:
                self._note_ambiguous(packet)
            elif not is_ahead and packet.packet_id is not None:
                self._journal.packet_ids.note_unordered(packet.packet_id)
            follows = is_ahead and self._journal.packet_ids.in_sequence is not False
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
        self.connection.acknowledge(self.acknowledgements.commit(batch))
        if batch.packet_ids:
            self._begin_silence()
        if batch.is_release:
            self._ask(Step.RELEASED)
            self._released = self._answer

    # The connection

    def pause(self) -> None:
        """Pause reading from the broker."""
        if not self._is_paused:
            self._is_paused = True
            self.connection.pause()

    def resume(self) -> None:
        """Resume reading after `pause`."""
        if self._is_paused:
            self._is_paused = False
            self.connection.release()

    async def is_answered(self) -> bool:
        """Whether the broker answers a PINGREQ, which shows that it has read all acknowledgements before it."""
        answer = self.connection.ping()
        await asyncio.wait([answer], timeout=self._limits.answer_s)
        return answer.done() and not answer.cancelled()

    # Silence

    @property
    def is_restless(self) -> bool:
        """Whether `rest` is due after `rest_s` without a packet."""
        if self.step is Step.DONE or not self.connection.is_open or self._journal.is_empty:
            return False
        return self.has_undecided or self.acknowledgements.held > 0

    @property
    def rest_s(self) -> float:
        """Time without a packet, in seconds, after which `rest` is due."""
        if self.step is not Step.NONE:
            return MOMENT_S
        return self._limits.silence_s[0] if self.has_undecided else self._silence_s

    def rest(self) -> bool:
        """Take the next step of a silence: return whether the broker has answered since."""
        if self.step is Step.NONE:
            self._ask(Step.ASKED)
        if self._answer is None or not self._answer.done() or self._answer.cancelled():
            return False
        if not self.acknowledgements.held:
            self.step = Step.DONE
        return True

    def wake(self) -> None:
        """A packet has arrived, which ends the silence."""
        answer = self._released
        if answer is not None and not answer.cancelled():
            was_awaited = not answer.done() or time.monotonic() - answer.result() < self._limits.reply_s
            self.acknowledgements.starved = self.acknowledgements.starved + 1 if was_awaited else 0
        self._begin_silence()

    def _begin_silence(self) -> None:
        self.step, self._answer, self._released = Step.NONE, None, None
        self._silence_s = random.uniform(*self._limits.silence_s)  # noqa: S311  # no secret

    def _ask(self, step: Step) -> None:
        self.step, self._answer = step, self.connection.ping()


def _lean(packet: Delivered) -> Delivered:
    """Return the packet without the properties that nothing reads: a device may make them large."""
    if not isinstance(packet, PublishPacket):
        return packet
    return PublishPacket(
        packet.topic,
        packet.payload,
        qos=packet.qos,
        duplicate=packet.duplicate,
        packet_id=packet.packet_id,
        content_type=packet.content_type,
    )


def _size(packet: Delivered) -> int:
    return PACKET_BYTES + len(packet.payload) + len(packet.topic) + len(packet.content_type or "")
