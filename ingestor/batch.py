"""A batch: the rows of one transaction, and the packets to acknowledge after it. Pure."""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set

import msgspec

from ingestor.payload.measurements import Measurement, Measurements, Refusal
from ingestor.payload.refusals import Message, Refusals, RefusedRow
from shared.readings.model import DeadLetter, Microseconds, Reading, Reason, is_key
from shared.readings.rows import ROW_BYTES, Rows, pack_row
from shared.settings import TopicFilter

Results = Sequence[Measurement | Refusal | None]
"""The results of the elements of a message; None: the element has a time of receipt, but is not in the batch."""


class Unresolved(msgspec.Struct, frozen=True):
    """A message whose device is unknown: its key is looked up when the batch is written."""

    message: Message
    key: str
    results: Results


class Batch:
    """The readings and dead letters of one transaction, and the packets to acknowledge after it.

    `step`: microseconds between the times of receipt of one reading of a message and the next.
    """

    def __init__(self, step: Microseconds = 1) -> None:
        self._step = step
        self.opened_at = time.monotonic()  # seconds
        self.looked_up_at = self.opened_at  # seconds; its devices are those that were known then, or later
        self.readings = Rows()
        self.unresolved: list[Unresolved] = []
        self.rejected: Counter[Reason] = Counter()
        self.packets = bytearray()  # what the journal records, packed
        self.known = bytearray()  # packets to acknowledge that it has recorded before, packed
        self.held = 0  # packets that stay unacknowledged once it is committed
        self.disordered = 0  # packets up to the last one whose place in the order of sending is not known
        self.is_release = False  # of acknowledgements that were held back
        self.packet_ids: list[int] = []  # what to acknowledge, in the order of receipt
        self.received = 0  # readings, of every fate
        self.rows = 0  # that they may become: a batch is full by these, and not by what is refused
        self.size_bytes = 0  # of payloads, topics and content types
        self._messages: list[Message] = []  # without those that are unresolved
        self._firsts: list[int] = []  # of each of them: where its readings begin
        self._refusals: dict[int, Refusals] = {}  # by the place of the message among them

    def add_redelivered(self, packet_id: int, packed: bytes, is_recorded: bool, is_in_order: bool) -> None:
        """Add a packet with DUP set, to be acknowledged. `is_recorded`: the journal records it."""
        self.packet_ids.append(packet_id)
        if is_recorded:
            self.packets += packed
        else:
            self.known += packed
        if not is_in_order:
            self.disordered = len(self.packet_ids)

    def add(self, message: Message, results: Results, device_id: int | None, topic_filter: TopicFilter) -> int:
        """Add a message, and return the number of rows that it may become.

        `device_id`: None while the device of the topic is unknown. The times of receipt of the readings rise from that
        of the message.
        """
        self.received += message.elements
        if device_id is not None:
            rows = self._take(message, results, device_id) or 1
        else:
            rows = self._add_unknown(message, results, topic_filter)
        self.rows += rows
        return rows

    def _add_unknown(self, message: Message, results: Results, topic_filter: TopicFilter) -> int:
        key = topic_filter.key(message.topic)
        if key is not None and is_key(key):
            self.unresolved.append(Unresolved(message, key, results))
            return message.elements
        detail = f"the topic has no device's key in the place of the + of {topic_filter.pattern}"
        self._refuse(message, results, Reason.BAD_TOPIC, detail)
        return 1

    def _take(self, message: Message, results: Results, device_id: int) -> int:
        """Add the readings of a known device's message, and return their number."""
        buffer, step, at, taken = self.readings.buffer, self._step, message.received_at, 0
        self._messages.append(message)
        self._firsts.append(len(buffer) // ROW_BYTES)
        if type(results) is Measurements:
            received_at = range(at, at + step * len(results), step)
            self.readings.extend_columns(device_id, results.recorded_at, received_at, results.axes)
            return len(results)
        for result in results:
            if type(result) is Measurement:
                recorded_at = at if result.recorded_at is None else result.recorded_at
                buffer += pack_row(device_id, recorded_at, at, result.x, result.y, result.z)
                taken += 1
            at += step
        if taken < len(results):
            self._refuse_elements(results)
        return taken

    def _refuse_elements(self, results: Results) -> None:
        """Record the refusals of the last message."""
        refusals = Refusals()
        for index, result in enumerate(results):
            if isinstance(result, Refusal):
                refusals.add(index if len(results) > 1 else None, result.reason, result.detail)
        self._keep(refusals)

    def _refuse(self, message: Message, results: Results, reason: Reason, detail: str) -> None:
        """Refuse a whole message."""
        self._messages.append(message)
        self._firsts.append(len(self.readings))
        refusals = Refusals()
        refusals.add_all((index for index, result in enumerate(results) if result is not None), reason, detail)
        self._keep(refusals)

    def _keep(self, refusals: Refusals) -> None:
        """Record the refusals of the last message."""
        if refusals.reasons:
            self._refusals[len(self._messages) - 1] = refusals
            self.rejected += refusals.reasons

    def settle(self, device_ids: Mapping[str, int]) -> None:
        """Add the unresolved messages. `device_ids`: the device of each topic that has one."""
        for one in self.unresolved:
            device_id = device_ids.get(one.message.topic)
            if device_id is not None:
                self._take(one.message, one.results, device_id)
            else:
                detail = (
                    f"no device has the key {one.key!r}: register it with POST /devices, "
                    "or set DEVICESTAT_UNKNOWN_DEVICES=register"
                )
                self._refuse(one.message, one.results, Reason.UNKNOWN_DEVICE, detail)
        self.unresolved.clear()

    def topics_of(self, devices: Set[int]) -> set[str]:
        """Return the topics of the devices' readings."""
        return {message.topic for message, own in self._readings_of_each() if own and own[0].device_id in devices}

    def reassign(self, deleted: Set[int], device_ids: Mapping[str, int]) -> None:
        """Give the readings of deleted devices to the devices that now have their keys; refuse those of the others.

        `device_ids`: the device of each topic that has one.
        """
        messages = list(self._readings_of_each())
        self.readings = Rows()
        self.looked_up_at = time.monotonic()
        for number, (message, own) in enumerate(messages):
            self._firsts[number] = len(self.readings)
            if not own or own[0].device_id not in deleted:
                self.readings += own
            elif (device_id := device_ids.get(message.topic)) is not None:
                self.readings += own.moved_to(device_id)
            else:
                self._refuse_deleted(number, message, own)

    def _readings_of_each(self) -> Iterator[tuple[Message, Rows]]:
        """Each message with its readings, which are all of one device."""
        ends = [*self._firsts, len(self.readings)][1:]
        for message, first, end in zip(self._messages, self._firsts, ends, strict=True):
            yield message, self.readings[first:end]

    def _refuse_deleted(self, number: int, message: Message, own: Sequence[Reading]) -> None:
        refusals = self._refusals.setdefault(number, Refusals())
        indexes = (self._index(message, reading) for reading in own)
        refusals.add_all(indexes, Reason.UNKNOWN_DEVICE, "its device was deleted")
        self.rejected[Reason.UNKNOWN_DEVICE] += len(own)

    def letters(self, refused: Sequence[RefusedRow] = ()) -> list[DeadLetter]:
        """Return the dead letters in the order of receipt: one for each message with a refusal.

        `refused`: the readings that the database refuses, by their index in `readings`.
        """
        refusals = self._with(refused) if refused else self._refusals
        return [refusals[number].letter(self._messages[number], self._step) for number in sorted(refusals)]

    def _with(self, refused: Sequence[RefusedRow]) -> dict[int, Refusals]:
        """Return copies of all refusals: another attempt to store the batch may find others."""
        refusals = {number: one.copy() for number, one in self._refusals.items()}
        for row in refused:
            number = bisect_right(self._firsts, row.index) - 1
            message = self._messages[number]
            index = self._index(message, self.readings[row.index]) if message.elements > 1 else None
            refusals.setdefault(number, Refusals()).add(index, Reason.DATABASE_REFUSED, row.detail)
        return refusals

    def _index(self, message: Message, reading: Reading) -> int:
        """Return the index of the reading in its message, which its time of receipt gives."""
        return (reading.received_at - message.received_at) // self._step
