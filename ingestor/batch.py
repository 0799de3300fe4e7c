"""A batch: what one transaction stores, and what is acknowledged after it. Pure."""

import time
from collections import Counter
from collections.abc import Mapping, Set
from typing import Protocol

import msgspec

from ingestor.decode import Measurement, Refusal
from shared.models import DeadLetter, Microseconds, Reading, Reason, is_key, to_datetime
from shared.settings import TopicFilter


class Message(Protocol):
    """What is needed of a PUBLISH. Nothing keeps the packet itself: its other properties may be of any size."""

    @property
    def topic(self) -> str: ...
    @property
    def content_type(self) -> str | None: ...
    @property
    def payload(self) -> bytes: ...


class Unresolved(msgspec.Struct, frozen=True):
    """A message of a device that is not known yet: its topic's key is looked up when its batch is written."""

    topic: str
    content_type: str | None
    payload: bytes
    key: str
    received_at: Microseconds
    results: list[Measurement | Refusal]


class Batch:
    """What one transaction stores: readings, dead letters, and the packets to acknowledge after it.

    `step`: from the time of receipt of one reading of a message to that of the next, in microseconds.
    """

    def __init__(self, step: Microseconds = 1) -> None:
        self._step = step
        self.opened_at = time.monotonic()  # seconds
        self.readings: list[Reading] = []
        self.topics: list[str] = []
        self.unresolved: list[Unresolved] = []
        self.dead_letters: list[DeadLetter] = []
        self.rejected: Counter[Reason] = Counter()
        self.packets = bytearray()  # what the journal is to know, packed
        self.packet_ids: list[int] = []  # what to acknowledge, in the order of receipt
        self.received = 0  # readings, of every fate
        self.size_bytes = 0  # of payloads, topics and content types

    def add(
        self,
        message: Message,
        results: list[Measurement | Refusal],
        received_at: Microseconds,
        device_id: int | None,
        topic_filter: TopicFilter,
    ) -> None:
        """Adds what a message holds. `device_id` is None while nobody knows whose topic it is.

        Each reading has a time of receipt of its own, from `received_at` upwards.
        """
        self.received += len(results)
        if device_id is not None:
            self._take(message, results, received_at, device_id)
            return
        key = topic_filter.key(message.topic)
        if key is not None and is_key(key):
            self.unresolved.append(
                Unresolved(message.topic, message.content_type, message.payload, key, received_at, results)
            )
        else:
            detail = f"the topic has no device's key in the place of the + of {topic_filter.pattern}"
            self._refuse(message, message.payload, received_at, Reason.BAD_TOPIC, detail, count=len(results))

    def _take(
        self,
        message: Message,
        results: list[Measurement | Refusal],
        received_at: Microseconds,
        device_id: int,
    ) -> None:
        topic, step, at = message.topic, self._step, received_at
        for result in results:
            if type(result) is Measurement:
                recorded_at = at if result.recorded_at is None else result.recorded_at
                self.readings.append(Reading(device_id, recorded_at, at, result.x, result.y, result.z))
                self.topics.append(topic)
            else:
                assert isinstance(result, Refusal)
                self._refuse(message, result.payload, at, result.reason, result.detail)
            at += step

    def _refuse(
        self,
        message: Message,
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
                topic=message.topic,
                content_type=message.content_type,
                payload=payload,
                reason=reason,
                detail=detail,
            )
        )
        self.rejected[reason] += count

    def settle(self, numbers: Mapping[str, int]) -> None:
        """Takes in what was unresolved: `numbers` gives the device of each topic that has one."""
        for message in self.unresolved:
            device_id = numbers.get(message.topic)
            if device_id is not None:
                self._take(message, message.results, message.received_at, device_id)
            else:
                self._refuse(
                    message,
                    message.payload,
                    message.received_at,
                    Reason.UNKNOWN_DEVICE,
                    f"no device has the key {message.key!r}: register it with POST /devices, "
                    "or set DEVICESTAT_UNKNOWN_DEVICES=register",
                    count=len(message.results),
                )
        self.unresolved.clear()

    def topics_of(self, devices: Set[int]) -> set[str]:
        """Return the topics of the devices' readings."""
        pairs = zip(self.readings, self.topics, strict=True)
        return {topic for reading, topic in pairs if reading.device_id in devices}

    def reassign(self, deleted: Set[int], numbers: Mapping[str, int]) -> None:
        """Give the readings of deleted devices to the devices that now have their keys; refuse those of the others.

        `numbers`: the device of each topic that has one.
        """
        readings, topics = self.readings, self.topics
        self.readings, self.topics = [], []
        for reading, topic in zip(readings, topics, strict=True):
            device_id = numbers.get(topic) if reading.device_id in deleted else reading.device_id
            if device_id is None:
                self.dead_letters.append(_alone(reading, topic, Reason.UNKNOWN_DEVICE, "its device was deleted"))
                self.rejected[Reason.UNKNOWN_DEVICE] += 1
                continue
            same = device_id == reading.device_id
            self.readings.append(reading if same else msgspec.structs.replace(reading, device_id=device_id))
            self.topics.append(topic)

    def dead_letter(self, index: int, detail: str) -> DeadLetter:
        """A dead letter for a reading that the database refused."""
        return _alone(self.readings[index], self.topics[index], Reason.DATABASE_REFUSED, detail)


def _alone(reading: Reading, topic: str, reason: Reason, detail: str) -> DeadLetter:
    """A dead letter for one reading, put together again by itself, with its time: its message may hold others."""
    moment = to_datetime(reading.recorded_at)
    return DeadLetter(
        received_at=reading.received_at,
        topic=topic,
        content_type=None,
        payload=msgspec.json.encode({"x": reading.x, "y": reading.y, "z": reading.z, "timestamp": moment}),
        reason=reason,
        detail=detail,
    )
