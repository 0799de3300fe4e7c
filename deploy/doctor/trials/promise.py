"""The delivery guarantee that the broker's redelivery allows: exactly once, or at least once (ADR 35).

A reading is stored exactly once if the broker redelivers with the original packet ids, in the original order, with DUP
set, and assigns packet ids in sequence (ADR 34). Otherwise a reading that may not be stored is stored again.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from shared.status.findings import Finding, Severity
from shared.status.words import counted


class Delivery(msgspec.Struct, frozen=True):
    """One PUBLISH: the number in its payload, its packet id, and its DUP flag."""

    number: int
    packet_id: int
    duplicate: bool


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries, in order.

    `acknowledged`: those that were acknowledged. `unacknowledged`: the others, on a connection that was then lost.
    `again`: those on the next connection. `left`: number of messages to deliver on the lost connection.
    """

    acknowledged: Sequence[Delivery]
    unacknowledged: Sequence[Delivery]
    again: Sequence[Delivery]
    left: int

    @property
    def sent(self) -> list[Delivery]:
        """The first delivery of each message that was not acknowledged."""
        return _first_of_each(self.unacknowledged)

    @property
    def redelivered(self) -> list[Delivery]:
        """The first delivery of each of these on the next connection."""
        numbers = {one.number for one in self.sent}
        return [one for one in _first_of_each(self.again) if one.number in numbers]

    @property
    def lost(self) -> int:
        """Number of these that were not redelivered."""
        return len(self.sent) - len(self.redelivered)

    @property
    def has_same_ids(self) -> bool:
        return {(one.number, one.packet_id) for one in self.redelivered} <= {
            (one.number, one.packet_id) for one in self.sent
        }

    @property
    def has_duplicate_set(self) -> bool:
        return all(one.duplicate for one in self.redelivered)

    @property
    def keeps_order(self) -> bool:
        numbers = {one.number for one in self.redelivered}
        return [one.number for one in self.redelivered] == [one.number for one in self.sent if one.number in numbers]

    @property
    def is_in_sequence(self) -> bool:
        ids = [one.packet_id for one in (*self.acknowledged, *self.sent)]
        return all(earlier < later for earlier, later in pairwise(ids))

    @property
    def retransmits(self) -> bool:
        """Whether a message was delivered twice on the connection that was then lost."""
        return len(self.unacknowledged) > len(self.sent)

    @property
    def is_exact(self) -> bool:
        """Whether each reading is stored exactly once, even without a timestamp."""
        return self.has_same_ids and self.has_duplicate_set and self.is_in_sequence and self.keeps_order


def _first_of_each(deliveries: Sequence[Delivery]) -> list[Delivery]:
    first: dict[int, Delivery] = {}
    for one in deliveries:
        first.setdefault(one.number, one)
    return list(first.values())


def explain(observed: Observed) -> list[Finding]:
    """Return the finding that explains the observation."""
    if observed.lost:
        text = (
            f"of {counted(len(observed.sent), 'message')} that a lost connection left unacknowledged, the broker did "
            f"not redeliver {observed.lost}: readings are lost with the ingestor's connection. {_how(observed)}"
        )
        return [Finding(Severity.WRONG, "redelivery", text)]
    if observed.is_exact:
        return [Finding(Severity.OK, "redelivery", f"exactly once: {_how(observed)}")]
    text = (
        f"at least once: {_how(observed)}. After a lost connection a reading without a timestamp may be "
        "stored twice; with a timestamp in the payload it is stored exactly once"
    )
    return [Finding(Severity.WARNING, "redelivery", text)]


def _how(observed: Observed) -> str:
    ids = "the same packet ids" if observed.has_same_ids else "new packet ids"
    order = "in the order sent" if observed.keeps_order else "in another order"
    duplicate = "with DUP set" if observed.has_duplicate_set else "without DUP"
    given = "in sequence" if observed.is_in_sequence else "again as soon as they are free"
    parts = [f"the broker redelivers with {ids}, {order}, {duplicate}", f"it assigns packet ids {given}"]
    if observed.retransmits:
        parts.append("it also retransmits on a live connection")
    if len(observed.sent) < observed.left:
        parts.append(f"it sends {counted(len(observed.sent), 'message')} before it waits for an acknowledgement")
    return "; ".join(parts)
