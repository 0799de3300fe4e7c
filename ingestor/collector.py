"""Collection of messages into batches.

The collector decodes each message on arrival, finds its device and adds its readings to the open batch. The writer
takes the batch when it is idle, so a batch grows while the previous one is committed. BATCH_LINGER_MS is the minimum
time between two batches. BATCH_MAX_READINGS is the size of a full batch. Readings, bytes and packets that are not yet
written are bounded: above a high watermark the connection is paused, and the broker queues the rest.

Redelivered packets are compared with the journal (`redelivery`), and may have to wait for a verdict.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from ingestor.batch import Batch
from ingestor.delivery.backlog import Backlog
from ingestor.delivery.deliveries import Deliveries, DeliveryLimits, Redelivered, Step
from ingestor.delivery.journal import Journal, pack
from ingestor.devices import Devices
from ingestor.metrics import Counts
from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.packets import Delivered, RefusedPublish
from ingestor.payload.decode import decode
from ingestor.payload.measurements import Refusal, Results
from ingestor.payload.refusals import Message
from shared.readings.clock import Clock
from shared.readings.model import duration
from shared.settings import Settings

FULL_PACKETS = 5_000
"""Packets of a full batch, even without readings: half of the default window, so that the broker keeps sending while
they are committed."""
BUSY_ROWS, BUSY_S = 100, 0.03
"""After a batch of at least this size the next one grows for this time, in seconds: a commit costs as much CPU as a
hundred messages."""


class Collector:
    """Takes messages from the connection, and gives batches to the writer."""

    def __init__(
        self,
        settings: Settings,
        devices: Devices,
        journal: Journal,
        counts: Counts,
        clock: Clock,
        limits: DeliveryLimits = DeliveryLimits(),  # noqa: B008  # it is frozen
    ) -> None:
        self._max_readings = settings.batch_max_readings
        self._max_packets = min(settings.batch_max_readings, FULL_PACKETS)
        self._linger_s = settings.batch_linger_ms / 1000
        self._window = settings.mqtt_window
        self._filter = settings.mqtt_topic
        self._oldest_age = duration(settings.oldest_age)
        self._devices = devices
        self._journal = journal
        self._counts = counts
        self._clock = clock
        self._limits = limits
        self._deliveries: Deliveries | None = None
        self._stopped = False
        self._open: Batch | None = None
        self._full: deque[Batch] = deque()
        self._due_at = float("-inf")  # monotonic, in seconds; when the next batch may be taken, if it is not full
        self._woken_at = float("-inf")  # monotonic, in seconds; of the last packet with an id, commit of one, or `rest`
        self._backlog = Backlog()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    # The broker's side

    def attach(self, connection: NetworkConnection) -> None:
        """Acknowledge on this connection the messages that are delivered from now on."""
        assert self._backlog.batches == 0, "a batch never spans two connections"
        starved = self._deliveries.acknowledgements.starved if self._deliveries else 0
        self._deliveries = Deliveries(connection, self._journal, self._counts, self._window, starved, self._limits)
        if self._stopped:
            connection.discard()

    def deliver(self, packet: Delivered) -> None:
        """Add a message to the open batch."""
        deliveries, packet_id = self._deliveries, packet.packet_id
        assert deliveries is not None
        self._counts.delivered += 1
        if packet_id is not None:
            self._woken_at = time.monotonic()
            if deliveries.step is not Step.NONE:
                deliveries.wake()
        if packet.duplicate and packet_id is not None:
            self._counts.redelivered += 1
            self._take_redelivered(deliveries.again(packet, packet_id))
            self._changed.set()  # it may wait for a verdict
        else:
            if packet_id is not None:
                self._take_redelivered(deliveries.note(packet_id))
            self._take(packet)
        if self._backlog.is_high:
            deliveries.pause()

    def _take(self, packet: Delivered) -> None:
        batch = self._open or self._open_batch()
        if packet.packet_id is not None:
            batch.packet_ids.append(packet.packet_id)
            batch.packets += pack(packet)
            self._backlog.packets += 1
        self._decode(packet, batch)
        self._close_if_full(batch)

    def _take_redelivered(self, redelivered: Iterable[Redelivered]) -> None:
        for one in redelivered:
            batch = self._open or self._open_batch()
            if not one.is_acknowledged and one.packet.packet_id is not None:
                self._backlog.packets += 1
                batch.add_redelivered(one.packet.packet_id, pack(one.packet), one.is_recorded, one.is_in_order)
            if not one.is_stored:
                self._decode(one.packet, batch)
            self._close_if_full(batch)

    def _close_if_full(self, batch: Batch) -> None:
        if batch.rows >= self._max_readings or len(batch.packet_ids) >= self._max_packets:
            self._close_batch()

    def _decode(self, packet: Delivered, batch: Batch) -> None:
        now = self._clock.read()
        topic, content_type, payload = packet.topic, packet.content_type, packet.payload
        if isinstance(packet, RefusedPublish):
            results: Results = [Refusal(packet.reason, packet.detail)]
        else:
            results = decode(payload, content_type, now, self._oldest_age)
        if not results:
            self._counts.empty += 1
            return
        count, size = len(results), len(topic) + len(payload)
        if content_type is not None:
            size += len(content_type)
        if count > 1:
            self._clock.take(now, count)
        message = Message(topic, content_type, payload, now, count)
        rows = batch.add(message, results, self._devices.known(topic), self._filter)
        batch.size_bytes += size
        self._backlog.size_bytes += size
        self._backlog.rows += rows
        counts = self._counts
        counts.received += count
        counts.in_flight += count

    def _open_batch(self) -> Batch:
        batch = self._open = Batch(self._clock.step)
        if self._deliveries is not None:
            self._deliveries.acknowledgements.receive(batch)
        if self._backlog.batches == 0:
            self._counts.oldest_at = batch.opened_at
        self._backlog.batches += 1
        self._idle.clear()
        self._changed.set()
        return batch

    def _close_batch(self) -> None:
        assert self._open is not None
        self._full.append(self._open)
        self._open = None
        self._changed.set()

    # The writer's side

    async def next(self) -> Batch:
        """Wait for the next batch, at least BATCH_LINGER_MS after the last. The caller owes a `done` for it."""
        while True:
            idle_s = self._idle_s()
            if idle_s is not None and idle_s <= 0:
                self.rest()
                idle_s = self._idle_s()
            self._changed.clear()
            remaining_s = self._due_at - time.monotonic()
            if (self._full or remaining_s <= 0) and (batch := self.take()) is not None:
                self._due_at = time.monotonic() + max(self._linger_s, BUSY_S if batch.rows >= BUSY_ROWS else 0)
                return batch
            if self._open is not None:
                await self._has_changed(remaining_s)
            else:
                await self._has_changed(idle_s)

    def take(self) -> Batch | None:
        """Return the next batch, full or not; None if there is none."""
        if not self._full:
            if self._open is None:
                return None
            self._close_batch()
        batch = self._full.popleft()
        if self._deliveries is not None:
            self._deliveries.plan(batch)
        return batch

    async def _has_changed(self, timeout_s: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def done(self, batch: Batch) -> None:
        """Acknowledge a committed batch, and resume reading below the low watermarks."""
        if self._deliveries is not None:
            self._deliveries.commit(batch)
            if batch.packet_ids:
                self._woken_at = time.monotonic()
        self._backlog.remove(batch)
        self._counts.in_flight -= batch.received
        self._counts.oldest_at = self._oldest_at()
        if self._backlog.is_low and self._deliveries is not None and not self._stopped:
            self._deliveries.resume()
        if self._backlog.batches == 0:
            self._idle.set()

    def _oldest_at(self) -> float | None:
        oldest = self._full[0] if self._full else self._open
        return None if oldest is None else oldest.opened_at

    @property
    def is_paused(self) -> bool:
        """Whether the connection is paused, because too much waits."""
        return self._deliveries is not None and self._deliveries.connection.is_paused

    # While nothing arrives

    @property
    def is_restless(self) -> bool:
        """Whether `rest` is due after some time without a packet."""
        return self._deliveries is not None and self._deliveries.is_restless and not self._stopped

    def _idle_s(self) -> float | None:
        """Return the time, in seconds, until `rest` is due; None if it is not."""
        if self._deliveries is None or not self.is_restless:
            return None
        return self._woken_at + self._deliveries.rest_s - time.monotonic()

    @property
    def holds_back(self) -> bool:
        """Whether acknowledgements are held back on an open connection."""
        deliveries = self._deliveries
        return deliveries is not None and deliveries.acknowledgements.held > 0 and deliveries.connection.is_open

    def rest(self) -> None:
        """Decide on the packets that wait, or release acknowledgements, after some time without a packet.

        While the ingestor stops, nothing is decided: the packets that follow are discarded, so silence proves nothing.
        """
        self._woken_at = time.monotonic()
        if self._stopped or self._deliveries is None or not self._deliveries.rest():
            return
        if self._deliveries.has_undecided:
            self._take_redelivered(self._deliveries.end())
        elif self.holds_back and self._deliveries.step is Step.ASKED:
            self.release()

    def release(self) -> None:
        """Send the acknowledgements that are held back, after a journal entry that records it."""
        batch = self._open or self._open_batch()
        batch.is_release = True
        self._close_batch()

    async def drain(self) -> None:
        """Wait until all delivered messages are committed."""
        if self._open is not None:
            self._close_batch()
        await self._idle.wait()

    async def settle(self) -> None:
        """Commit all that was delivered, and send the acknowledgements that are held back.

        They are kept if the broker does not respond to a PINGREQ: it may not have those before them either, and the
        next connection shows which it has.
        """
        await self.drain()
        if self._deliveries is not None and self.holds_back and await self._deliveries.is_answered():
            self.release()
            await self._idle.wait()

    async def stop(self) -> None:
        """Take no more messages from the broker, and settle.

        The connection is read until the broker has all acknowledgements: closing it with unread bytes would reset it,
        and a reset discards the bytes that the broker has not read.
        """
        self._stopped = True
        deliveries = self._deliveries
        if deliveries is not None:
            deliveries.pause()
        await self.drain()
        if deliveries is None:
            return
        deliveries.connection.discard()
        if await deliveries.is_answered() and self.holds_back:
            self.release()
            await self._idle.wait()
            await deliveries.is_answered()
