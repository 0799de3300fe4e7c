"""Those who listen to one device."""

import asyncio
import time
from datetime import UTC, datetime

from query_api.live.listeners import End, Gap, Listener, reading_event
from query_api.readings.record import StoredReading


class Feed:
    """The listeners of one device."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self.is_heard = asyncio.Event()  # by those who store readings
        self.hear()

    def hear(self) -> None:
        """Note that those who store readings have heard of it."""
        self.heard_at = datetime.now(UTC)
        self._heard = time.monotonic()

    @property
    def unheard_s(self) -> float:
        """Seconds since they have; a clock that is set changes nothing."""
        return time.monotonic() - self._heard

    def show(self, reading: StoredReading) -> None:
        """Has it sent to all of them."""
        event = reading_event(reading)
        for listener in self.listeners:
            listener.send(event, reading.timestamp)

    def tell(self, gap: Gap) -> None:
        """Has the gap told to all of them."""
        for listener in self.listeners:
            listener.tell(gap)

    def end(self, end: End | None = None) -> None:
        """Ends the streams of all of them, and those that are about to begin."""
        for listener in self.listeners:
            listener.end(end)
        self.is_heard.set()
