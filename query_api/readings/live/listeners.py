"""One client of a live stream: its queue of server-sent events, in bounded memory.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from query_api.access.confirming import HELD_S
from query_api.calendar.json_times import encode
from query_api.readings.record import StoredReading
from shared.readings.announce import EXPIRES_S, REPEAT_S

RETRY_MS = 2000
"""Time after which a browser reconnects."""

_BEGINNING = b"retry: %d\n\n" % RETRY_MS
_Since = Annotated[
    datetime | None,
    msgspec.Meta(description="Readings from this time on may be missing. Absent: those after the last one received."),
]


class LiveBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and intervals of live streams."""

    max_listeners: int = 1000
    max_listeners_each: int = 200
    """Listeners of one key, or else one address, so that one client cannot take all places."""
    max_events: int = 20_000
    """Events queued for one listener, enough for a batch. All listeners of a device share the bytes."""
    block_bytes: int = 64 * 1024
    """Approximate size up to which events are sent together."""
    heartbeat_s: float = 15.0
    want_every_s: float = REPEAT_S
    """Interval at which the process publishes the devices that it wants."""
    known_after_s: float = REPEAT_S + 1
    """Time after subscribing in which every process has published the devices that it wants."""
    expires_s: float = EXPIRES_S
    """A device that is not published again within this time is no longer wanted."""
    subscribed_within_s: float = 3.0
    """Time that a new stream waits until the writers know that its device is wanted."""
    held_s: float = HELD_S
    """A stream, or a download, ends if its credential was not confirmed for this long."""


LIVE = LiveBounds()


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """Readings may be missing: read them with GET /stats/{device_id}."""

    detail: Annotated[str, msgspec.Meta(description="Reason.", examples=["the database was unavailable"])]
    since: _Since = None
    device_id: Annotated[
        int | None, msgspec.Meta(description="The device, on a stream of several. Absent: all devices of the stream.")
    ] = None


class Dropped(msgspec.Struct, frozen=True):
    """Readings are missing, as the client reads too slowly."""

    count: Annotated[int, msgspec.Meta(description="Number of missing readings.", examples=[17])]
    since: Annotated[datetime, msgspec.Meta(description="Earliest time of the missing readings.")]


def reading_event(reading: StoredReading) -> bytes:
    """Return the event of a reading."""
    return b"id: %d\nevent: reading\ndata: %b\n\n" % (reading.id, encode(reading))


def gap_event(gap: Gap) -> bytes:
    """Return the event of a gap."""
    return b"event: gap\ndata: %b\n\n" % encode(gap)


def _dropped_event(dropped: Dropped) -> bytes:
    return b"event: dropped\ndata: %b\n\n" % encode(dropped)


class End(msgspec.Struct, frozen=True):
    """The stream ends. The client should not reconnect."""

    detail: Annotated[str, msgspec.Meta(description="Reason.", examples=["the device was deleted"])]


class Removed(msgspec.Struct, frozen=True):
    """A device of a stream of several was deleted. The stream continues without it."""

    device_id: Annotated[int, msgspec.Meta(description="Id of the device.", examples=[1])]
    detail: Annotated[str, msgspec.Meta(description="Reason.", examples=["the device was deleted"])]


class Interrupted(msgspec.Struct, frozen=True):
    """The stream ends. The client may reconnect; the next stream begins with a gap."""

    detail: Annotated[str, msgspec.Meta(description="Reason.", examples=["the key could not be checked"])]


_KEY_IS_LOST = End("the key has expired or was revoked, or the session has ended")
_UNCONFIRMED = Interrupted("the key could not be checked: reconnect")


class Heartbeat(msgspec.Struct, frozen=True):
    """The stream is open, and has had no event for some time."""

    time: Annotated[datetime, msgspec.Meta(description="The time of the service.")]


def heartbeat_event() -> bytes:
    """Return the event that says that the stream is open. Scripts in a browser cannot see comments."""
    return b"event: heartbeat\ndata: %b\n\n" % encode(Heartbeat(datetime.now(UTC)))


def removed_event(removed: Removed) -> bytes:
    """Return the event of a deleted device."""
    return b"event: removed\ndata: %b\n\n" % encode(removed)


def last_event(end: End | Interrupted) -> bytes:
    """Return the last event of a stream."""
    name = b"end" if isinstance(end, End) else b"interrupted"
    return b"event: %b\ndata: %b\n\n" % (name, encode(end))


class Listener:
    """The queued events of one client."""

    def __init__(
        self,
        devices: Sequence[int],
        caller: str = "",
        credential: str | None = None,
        bounds: LiveBounds = LIVE,
        *,
        names_devices: bool = False,
    ) -> None:
        """`caller`: its streams are counted together. `credential`: must stay valid while events are sent.

        A listener with a credential sends no event before `confirm`. `names_devices`: gaps have the id of their device.
        """
        self.devices = tuple(devices)
        self._remaining = set(devices)
        self._names_devices = names_devices
        self.caller = caller
        self.credential = credential
        self._bounds = bounds
        self._waiting: deque[bytes] = deque()
        self._dropped: Dropped | None = None
        self._something = asyncio.Event()
        self._ended = False
        self._farewell = b""
        self.confirmed_until = math.inf if credential is None else time.monotonic()
        """Events may be sent until this time of time.monotonic."""

    @property
    def is_confirmed(self) -> bool:
        """Whether events may be sent now."""
        return time.monotonic() < self.confirmed_until

    def confirm(self, until: float) -> None:
        """Allow events until this time of time.monotonic, including those held back."""
        self.confirmed_until = until
        if self._waiting or self._dropped is not None:
            self._something.set()

    def send(self, event: bytes, of: datetime) -> None:
        """Queue the event of a reading, or count it as dropped. `of`: the reading's time."""
        if self._dropped is not None:
            self._dropped = Dropped(self._dropped.count + 1, min(self._dropped.since, of))
        elif len(self._waiting) >= self._bounds.max_events:
            self._dropped = Dropped(1, of)
        else:
            self._waiting.append(event)
        self._something.set()

    def tell(self, gap: Gap, device_id: int | None = None) -> None:
        """Queue a gap. `device_id`: of which the readings are missing; None: of all devices."""
        if self._names_devices and device_id is not None:
            gap = msgspec.structs.replace(gap, device_id=device_id)
        if self._dropped is not None and gap.since is not None:
            self._dropped = Dropped(self._dropped.count, min(self._dropped.since, gap.since))
        elif len(self._waiting) < 2 * self._bounds.max_events:  # a client that never reads keeps the first gaps
            self._waiting.append(gap_event(gap))
        self._something.set()

    def remove(self, device_id: int, end: End) -> None:
        """Queue the end of one device. The end of the last one ends the stream."""
        if device_id in self._remaining:
            self._remaining.remove(device_id)
            if not self._remaining:
                self.end(end)
            else:
                self._waiting.append(removed_event(Removed(device_id, end.detail)))
                self._something.set()

    def end(self, end: End | Interrupted | None = None) -> None:
        """End the stream without sending queued events, with a last event unless the service stops."""
        self._farewell = last_event(end) if end else b""
        self._ended = True
        self._something.set()

    def lose(self) -> None:
        """End the stream: its credential is not valid any more."""
        self.end(_KEY_IS_LOST)

    def interrupt(self) -> None:
        """End the stream: its credential could not be checked."""
        self.end(_UNCONFIRMED)

    async def events(self) -> AsyncGenerator[bytes]:
        """Yield the stream in blocks until its end."""
        yield _BEGINNING
        while not self._ended:
            try:
                async with asyncio.timeout(self._bounds.heartbeat_s):
                    await self._something.wait()
            except TimeoutError:
                yield heartbeat_event()
            else:
                if self._ended:
                    break
                if not self.is_confirmed:
                    self._something.clear()  # `confirm` sets it again
                elif block := self._take():
                    yield block
        if self._farewell:
            yield self._farewell

    def _take(self) -> bytes:
        block = bytearray()
        while self._waiting and len(block) < self._bounds.block_bytes:
            block += self._waiting.popleft()
        if not self._waiting:
            if self._dropped is not None:
                block += _dropped_event(self._dropped)
                self._dropped = None
            self._something.clear()
        return bytes(block)


class Feed:
    """The listeners of one device."""

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id
        self.listeners: set[Listener] = set()
        self.is_known = asyncio.Event()  # the writers know that the device is wanted
        self.confirm()

    def confirm(self) -> None:
        """Record that the writers know now that the device is wanted."""
        self.known_at = datetime.now(UTC)
        self._confirmed = time.monotonic()

    @property
    def unconfirmed_s(self) -> float:
        """Seconds since `confirm`, on the monotonic clock."""
        return time.monotonic() - self._confirmed

    def show(self, reading: StoredReading) -> None:
        """Send the reading to all listeners."""
        event = reading_event(reading)
        for listener in self.listeners:
            listener.send(event, reading.timestamp)

    def tell(self, gap: Gap) -> None:
        """Send the gap to all listeners."""
        for listener in self.listeners:
            listener.tell(gap, self.device_id)

    def remove(self, end: End) -> None:
        """End the device on all streams, including those about to begin."""
        for listener in self.listeners:
            listener.remove(self.device_id, end)
        self.is_known.set()

    def end(self) -> None:
        """End all streams, including those about to begin."""
        for listener in self.listeners:
            listener.end()
        self.is_known.set()
