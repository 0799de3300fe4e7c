"""A batch: what one transaction stores, and what is acknowledged after it. Pure."""

import time
from collections import Counter
from collections.abc import Mapping

import msgspec
from mqtt5 import PublishPacket

from ingestor.decode import Measurement, Refusal
from shared.models import DeadLetter, Microseconds, Reading, Reason, is_key, to_datetime
from shared.settings import TopicFilter


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
        self.packets: list[PublishPacket] = []  # what the journal is to know
        self.packet_ids: list[int] = []  # what to acknowledge, in the order of receipt
        self.received = 0  # readings, of every fate
        self.size_bytes = 0  # of the payloads

    def add(
        self,
        packet: PublishPacket,
        results: list[Measurement | Refusal],
        received_at: Microseconds,
        device_id: int | None,
        topic_filter: TopicFilter,
    ) -> None:
        """Adds what a message holds. `device_id` is None while nobody knows whose topic it is.

        Each reading has a time of receipt of its own, from `received_at` upwards.
        """
        self.received += len(results)
        self.size_bytes += len(packet.payload)
        if device_id is not None:
            self._take(packet, results, received_at, device_id)
            return
        key = topic_filter.key(packet.topic)
        if key is not None and is_key(key):
            self.unresolved.append(Unresolved(packet, key, received_at, results))
        else:
            detail = f"the topic has no device's key in the place of the + of {topic_filter.pattern}"
            self._refuse(packet, packet.payload, received_at, Reason.BAD_TOPIC, detail, count=len(results))

    def _take(
        self,
        packet: PublishPacket,
        results: list[Measurement | Refusal],
        received_at: Microseconds,
        device_id: int,
    ) -> None:
        topic = packet.topic
        for at, result in enumerate(results, received_at):
            if type(result) is Measurement:
                recorded_at = at if result.recorded_at is None else result.recorded_at
                self.readings.append(Reading(device_id, recorded_at, at, result.x, result.y, result.z))
                self.topics.append(topic)
            else:
                assert isinstance(result, Refusal)
                self._refuse(packet, result.payload, at, result.reason, result.detail)

    def _refuse(
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
                self._take(message.packet, message.results, message.received_at, device_id)
            else:
                self._refuse(
                    message.packet,
                    message.packet.payload,
                    message.received_at,
                    Reason.UNKNOWN_DEVICE,
                    f"no device has the key {message.key!r}: register it with POST /devices, "
                    "or set DEVICESTAT_UNKNOWN_DEVICES=register",
                    count=len(message.results),
                )
        self.unresolved.clear()

    def dead_letter(self, index: int, detail: str) -> DeadLetter:
        """A dead letter for a reading that the database refused.

        Its message may hold others that were stored: it is put together again by itself, with its time.
        """
        reading = self.readings[index]
        moment = to_datetime(reading.recorded_at)
        return DeadLetter(
            received_at=reading.received_at,
            topic=self.topics[index],
            content_type=None,
            payload=msgspec.json.encode({"x": reading.x, "y": reading.y, "z": reading.z, "timestamp": moment}),
            reason=Reason.DATABASE_REFUSED,
            detail=detail,
        )
