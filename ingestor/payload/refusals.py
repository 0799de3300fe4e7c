"""The refusals of one message, collected by element into a dead letter. Pure."""

from array import array
from collections import Counter
from collections.abc import Iterable

import msgspec

from ingestor.payload.decode import FAULTS_DESCRIBED, MAX_PAYLOAD_BYTES
from shared.dead_letters import bitmap
from shared.readings.model import DeadLetter, ElementFault, Microseconds, Reason

PREFIX_BYTES = 4096
"""Bytes kept of a payload that is too large."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """The fields of a PUBLISH that are kept. The packet itself is not: its other properties may be large.

    `elements`: number of readings, stored or refused.
    """

    topic: str
    content_type: str | None
    payload: bytes
    received_at: Microseconds
    elements: int


class RefusedRow(msgspec.Struct, frozen=True):
    """A row that the database refuses: its place in the batch, and the database's message."""

    index: int
    detail: str


class Refusals:
    """The refused elements of one message."""

    def __init__(self) -> None:
        self.reasons: Counter[Reason] = Counter()
        self._faults: list[ElementFault] = []
        self._indexes = array("H")  # two bytes each: pending batches hold millions

    def add(self, index: int | None, reason: Reason, detail: str) -> None:
        """Add one element. `index`: None if the message is not an array."""
        self._indexes.append(index or 0)
        if len(self._faults) < FAULTS_DESCRIBED or reason not in self.reasons:
            self._faults.append(ElementFault(index, reason, detail))
        self.reasons[reason] += 1

    def add_all(self, indexes: Iterable[int], reason: Reason, detail: str) -> None:
        """Add elements that were refused for one reason, which concerns the message."""
        before = len(self._indexes)
        self._indexes.fromlist(list(indexes))  # faster than extend
        self.reasons[reason] += len(self._indexes) - before
        self._faults.append(ElementFault(None, reason, detail))

    def copy(self) -> "Refusals":
        """Return an independent copy."""
        copy = Refusals()
        copy.reasons = self.reasons.copy()
        copy._faults = self._faults.copy()
        copy._indexes = self._indexes[:]
        return copy

    def letter(self, message: Message, step: Microseconds) -> DeadLetter:
        """Return the dead letter of the message; `step` is that of the batch."""
        payload, is_all = message.payload, len(self._indexes) == message.elements
        is_too_large = Reason.TOO_LARGE in self.reasons or len(payload) > MAX_PAYLOAD_BYTES
        return DeadLetter(
            received_at=message.received_at,
            step=step,
            topic=message.topic,
            content_type=message.content_type,
            payload=payload[:PREFIX_BYTES] if is_too_large else payload,
            payload_bytes=len(payload),
            reasons=self.reasons,
            faults=self._faults,
            refused=None if is_all else bitmap.of(self._indexes),
        )
