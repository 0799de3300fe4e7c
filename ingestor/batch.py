"""A batch: what one transaction stores, and what is acknowledged after it. Pure."""

import time
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec
from mqtt5 import PublishPacket

from ingestor.decode import Measurement, Refusal
from shared.models import DeadLetter, Microseconds, Reading, Reason


class Unresolved(msgspec.Struct, frozen=True):
    """A message of a device that is not known yet: its topic's key is looked up when its batch is written."""

    packet: PublishPacket
    key: str
    received_at: Microseconds
    results: list[Measurement | Refusal]


class Batch:
    """What one transaction stores: readings, dead letters, and the packets to acknowledge after it."""

    def __init__(self) -> None:
        self.opened_at = time.monotonic()  # seconds
        self.readings: list[Reading] = []
        self.topics: list[str] = []
        self.unresolved: list[Unresolved] = []
        self.dead_letters: list[DeadLetter] = []
        self.rejected: Counter[Reason] = Counter()
        self.packets: list[PublishPacket] = []
        self.received = 0  # readings, of every fate
        self.size_bytes = 0  # of the payloads

    @property
    def packet_ids(self) -> list[int]:
        """What to acknowledge, in the order of receipt. QoS 0 has no packet id."""
        return [p.packet_id for p in self.packets if p.packet_id is not None]

    def take(
        self,
        packet: PublishPacket,
        device_id: int,
        received_at: Microseconds,
        results: list[Measurement | Refusal],
    ) -> None:
        """Adds what a message of a known device holds. Receipt times count up by one for each reading."""
        topic = packet.topic
        for result in results:
            if type(result) is Measurement:
                recorded_at = received_at if result.recorded_at is None else result.recorded_at
                self.readings.append(Reading(device_id, recorded_at, received_at, result.x, result.y, result.z))
                self.topics.append(topic)
                received_at += 1
            else:
                assert isinstance(result, Refusal)
                self.refuse(packet, result.payload, received_at, result.reason, result.detail)

    def refuse(
        self,
        packet: PublishPacket,
        payload: bytes,
        received_at: Microseconds,
        reason: Reason,
        detail: str,
        *,
        count: int = 1,
    ) -> None:
        """Adds a dead letter, which stands for `count` readings."""
        self.dead_letters.append(
            DeadLetter(
                received_at=received_at,
                topic=packet.topic,
                content_type=packet.content_type,
                payload=payload,
                reason=reason,
                detail=detail,
            )
        )
        self.rejected[reason] += count

    def settle(self, numbers: Mapping[str, int]) -> None:
        """Takes in what was unresolved: `numbers` gives the device of each topic that has one."""
        for message in self.unresolved:
            device_id = numbers.get(message.packet.topic)
            if device_id is not None:
                self.take(message.packet, device_id, message.received_at, message.results)
            else:
                self.refuse(
                    message.packet,
                    message.packet.payload,
                    message.received_at,
                    Reason.UNKNOWN_DEVICE,
                    f"no device has the key {message.key!r}: register it with POST /devices, "
                    "or set DEVICESTAT_UNKNOWN_DEVICES=register",
                    count=len(message.results),
                )
        self.unresolved.clear()


class Clock:
    """Times of receipt, each later than the last: equal readings of one batch stay apart (ADR 4)."""

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._free: Microseconds = 0

    def read(self) -> Microseconds:
        """The time, or the first moment that is not taken."""
        return max(self._now() // 1000, self._free)

    def take(self, first: Microseconds, count: int) -> None:
        """Takes `count` moments from `first`, which was read."""
        self._free = first + count
