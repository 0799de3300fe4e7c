"""Messages become batches.

Each message is decoded as it arrives, its device found, and the open batch filled. A batch is handed to the
writer when it holds BATCH_MAX_READINGS, or BATCH_LINGER_MS after its first message; while the writer is
busy, it goes on growing up to the former. What is collected and not yet written is bounded, in readings, in
bytes and in packets: above a high watermark the connection is paused, and the broker keeps the rest.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress

from ingestor.batch import Batch
from ingestor.connection import NetworkConnection
from ingestor.decode import decode
from ingestor.devices import Devices
from ingestor.journal import Journal, pack
from ingestor.measurements import Refusal, Results
from ingestor.metrics import Counts
from ingestor.packets import Delivered, RefusedPublish
from ingestor.refusals import Message
from shared.clock import Clock
from shared.models import duration
from shared.settings import Settings, parse_topic_filter

HIGH_READINGS = 50_000
HIGH_BYTES = 16 * 1024 * 1024
HIGH_PACKETS = 20_000
"""High watermarks of what waits to be written: above any of them, reading from the broker pauses. The readings
are those that may become rows: what is refused of a message is one row, however many elements that is. The packets
are those whose acknowledgements are lost together when the connection is, and the journal must answer for (ADR 3)."""
LOW_READINGS = HIGH_READINGS // 2
LOW_BYTES = HIGH_BYTES // 2
LOW_PACKETS = HIGH_PACKETS // 2
"""Low watermarks: below all of them it goes on."""


class Collector:
    """Fills batches on one side, hands them out on the other."""

    def __init__(self, settings: Settings, devices: Devices, journal: Journal, counts: Counts, clock: Clock) -> None:
        self._max_readings = settings.batch_max_readings
        self._linger_s = settings.batch_linger_ms / 1000
        self._filter = parse_topic_filter(settings.mqtt_topic)
        self._oldest_age = duration(settings.oldest_age)
        self._devices = devices
        self._journal = journal
        self._counts = counts
        self._clock = clock
        self._connection: NetworkConnection | None = None
        self._paused = False
        self._stopped = False
        self._open: Batch | None = None
        self._full: deque[Batch] = deque()
        self._unwritten = 0
        self._waiting_bytes = 0
        self._waiting_rows = 0
        self._waiting_packets = 0
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    # The broker's side

    def attach(self, connection: NetworkConnection) -> None:
        """What is delivered from here on came over this connection, and is acknowledged on it."""
        assert self._unwritten == 0, "a batch never spans two connections"
        self._connection = connection
        self._paused = False

    def deliver(self, packet: Delivered) -> None:
        """Takes a message into the open batch."""
        batch = self._open or self._open_batch()
        packet_id = packet.packet_id
        if packet_id is not None:
            batch.packet_ids.append(packet_id)
            self._waiting_packets += 1
        if not (packet.duplicate and self._is_stored(packet)):
            batch.packets += pack(packet)
            self._decode(packet, batch)
        if batch.rows >= self._max_readings or len(batch.packet_ids) >= self._max_readings:
            self._close_batch()
        if (
            self._waiting_rows > HIGH_READINGS
            or self._waiting_bytes > HIGH_BYTES
            or self._waiting_packets > HIGH_PACKETS
        ):
            self._pause()

    def _is_stored(self, packet: Delivered) -> bool:
        self._counts.redelivered += 1
        return self._journal.is_stored(packet)

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
        self._waiting_bytes += size
        self._waiting_rows += rows
        counts = self._counts
        counts.received += count
        counts.in_flight += count

    def _open_batch(self) -> Batch:
        batch = self._open = Batch(self._clock.step)
        if self._unwritten == 0:
            self._counts.oldest_at = batch.opened_at
        self._unwritten += 1
        self._idle.clear()
        self._changed.set()
        return batch

    def _close_batch(self) -> None:
        assert self._open is not None
        self._full.append(self._open)
        self._open = None
        self._changed.set()

    def _pause(self) -> None:
        if self._connection is not None and not self._paused:
            self._paused = True
            self._connection.pause()

    def _resume(self) -> None:
        if self._connection is not None and self._paused and not self._stopped:
            self._paused = False
            self._connection.release()

    # The writer's side

    async def next(self) -> Batch:
        """The next batch, when it is full or has lingered. `done` is owed for it."""
        while not self._full:
            self._changed.clear()
            if self._open is None:
                await self._changed.wait()
            elif (remaining := self._open.opened_at + self._linger_s - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(remaining):
                        await self._changed.wait()
            else:
                self._close_batch()
        return self._full.popleft()

    def done(self, batch: Batch) -> None:
        """The batch is committed: acknowledges it, and makes room."""
        if self._connection is not None:
            self._connection.acknowledge(batch.packet_ids)
        self._unwritten -= 1
        self._waiting_bytes -= batch.size_bytes
        self._waiting_rows -= batch.rows
        self._waiting_packets -= len(batch.packet_ids)
        self._counts.in_flight -= batch.received
        self._counts.oldest_at = self._oldest_at()
        if (
            self._waiting_rows <= LOW_READINGS
            and self._waiting_bytes <= LOW_BYTES
            and self._waiting_packets <= LOW_PACKETS
        ):
            self._resume()
        if self._unwritten == 0:
            self._idle.set()

    def _oldest_at(self) -> float | None:
        oldest = self._full[0] if self._full else self._open
        return None if oldest is None else oldest.opened_at

    async def drain(self) -> None:
        """Returns when all that was delivered is committed."""
        if self._open is not None:
            self._close_batch()
        await self._idle.wait()

    async def stop(self) -> None:
        """Takes no more from the broker, and drains."""
        if self._connection is not None:
            self._connection.pause()
        self._stopped = True
        await self.drain()
