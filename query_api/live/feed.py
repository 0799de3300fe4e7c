"""The listeners of one device, together."""

import asyncio
import time
from datetime import UTC, datetime

from query_api.live.listeners import End, Gap, Listener, reading_event
from query_api.readings.record import StoredReading


class Feed:
    """The listeners of one device."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self.is_heard = asyncio.Event()  # the writers know that the device is wanted
        self.hear()

    def hear(self) -> None:
        """Note that the writers know that the device is wanted."""
        self.heard_at = datetime.now(UTC)
        self._heard = time.monotonic()

    @property
    def unheard_s(self) -> float:
        """Seconds since then, on the monotonic clock."""
        return time.monotonic() - self._heard

    def show(self, reading: StoredReading) -> None:
        """Send the reading to all listeners."""
        event = reading_event(reading)
        for listener in self.listeners:
            listener.send(event, reading.timestamp)

    def tell(self, gap: Gap) -> None:
        """Send the gap to all listeners."""
        for listener in self.listeners:
            listener.tell(gap)

    def end(self, end: End | None = None) -> None:
        """End all streams, including those about to begin."""
        for listener in self.listeners:
            listener.end(end)
        self.is_heard.set()
