"""The live streams of this process.

1. `Live.join` adds a listener to a device. `LiveReader` notifies all writers immediately and every few seconds which
   devices are wanted (`shared.readings.announce`).
2. A writer that stores readings of a wanted device notifies where they are, and `Notifications` receives it.
3. `LiveReader` reads them by index, once for all listeners.
4. Each `Listener` sends them as fast as its client reads.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from query_api.access.confirming import Credentials
from query_api.readings.live.listeners import LIVE, End, Feed, Gap, Listener, LiveBounds
from query_api.readings.live.reader import LiveReader
from query_api.readings.record import StoredReading
from query_api.web.answers import problems
from query_api.web.answers.problems import Refused
from shared.backoff import backoff
from shared.postgres.connections import RETRYABLE
from shared.postgres.errors import diagnose
from shared.postgres.listening import LOOK_AGAIN, Notifications
from shared.readings.announce import (
    ANY_DEVICE,
    REPEAT_S,
    STORED_CHANNEL,
    WANTED_CHANNEL,
    Interest,
    Span,
    parse_span,
    parse_wanted,
)
from shared.readings.model import to_datetime

MAX_SPANS = 10_000
"""Notified spans that are not yet read."""
MARGIN = timedelta(seconds=REPEAT_S)
"""Time by which a gap starts earlier: a missing reading may have been measured and received before."""
CHANNELS = (WANTED_CHANNEL, STORED_CHANNEL)
"""Channels that Notifications must listen on."""

_DEVICE_IS_GONE = End("the device was deleted")
_log = structlog.get_logger()


class Live:
    """All listeners of this process."""

    def __init__(
        self, url: str, notifications: Notifications, credentials: Credentials, bounds: LiveBounds = LIVE
    ) -> None:
        self.interest = Interest(known_after_s=bounds.known_after_s, expires_s=bounds.expires_s)
        """The devices that listeners of all processes want."""
        self._reader = LiveReader(url)
        self._credentials = credentials
        self._bounds = bounds
        self._feeds: dict[int, Feed] = {}
        self._spans: deque[Span] = deque()
        self._has_spans = asyncio.Event()
        self._wanted_changed = asyncio.Event()
        self._stopping = False
        notifications.add_subscriber(WANTED_CHANNEL, self._on_wanted)
        notifications.add_subscriber(STORED_CHANNEL, self._on_stored)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve the listeners until the event is set, then end their streams."""
        try:
            async with asyncio.TaskGroup() as tasks:
                parts = [
                    tasks.create_task(self._want(), name="live wanted devices"),
                    tasks.create_task(self._read(), name="live readings"),
                ]
                await stop.wait()
                self._stopping = True
                for feed in self._feeds.values():
                    feed.end()
                for part in parts:
                    part.cancel()
        finally:
            await self._reader.close()

    # Listeners.

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return len(self._listeners())

    async def join(
        self, devices: Sequence[int], caller: str, credential: str | None = None, *, names_devices: bool = False
    ) -> Listener:
        """Add a listener, which gets readings from the return on. The caller must call `leave`. Raises Refused.

        `caller`: its streams are counted together. `credential`: the credential of the request, if any.
        """
        self._require_place(caller)
        listener = Listener(devices, caller, credential, self._bounds, names_devices=names_devices)
        feeds = [self._feeds.setdefault(device_id, Feed(device_id)) for device_id in devices]
        for feed in feeds:
            feed.listeners.add(listener)
        self._credentials.add(listener)
        try:
            await self._until_subscribed(feeds)
            await self._until_settled(listener)
        except BaseException:
            self.leave(listener)
            raise
        return listener

    def _require_place(self, caller: str) -> None:
        if self._stopping:
            raise _no_place("the service is stopping")
        callers = [listener.caller for listener in self._listeners()]
        if len(callers) >= self._bounds.max_listeners:
            raise _no_place(f"{self._bounds.max_listeners} streams are open")
        if callers.count(caller) >= self._bounds.max_listeners_each:
            detail = f"{self._bounds.max_listeners_each} streams of this key or address are open: close one of them"
            raise Refused(problems.TOO_MANY_REQUESTS, detail, headers=problems.RETRY_AFTER)

    async def _until_settled(self, listener: Listener) -> None:
        """Wait for the batches in progress: a writer is notified between transactions, and does not announce them."""
        began = datetime.now(UTC)
        try:
            async with asyncio.timeout(self._bounds.subscribed_within_s):
                await self._reader.settle()
        except (TimeoutError, *RETRYABLE):
            listener.tell(Gap("a batch was in progress as the stream began", began - MARGIN))

    async def _until_subscribed(self, feeds: Sequence[Feed]) -> None:
        if not all(feed.is_known.is_set() for feed in feeds):
            self._wanted_changed.set()
        try:
            async with asyncio.timeout(self._bounds.subscribed_within_s):
                for feed in feeds:
                    await feed.is_known.wait()
        except TimeoutError:
            raise _no_place("the database does not respond") from None

    def leave(self, listener: Listener) -> None:
        """Remove a listener. It may be called twice."""
        self._credentials.remove(listener)
        for device_id in listener.devices:
            self._leave(device_id, listener)

    def _leave(self, device_id: int, listener: Listener) -> None:
        feed = self._feeds.get(device_id)
        if feed is not None:
            feed.listeners.discard(listener)
            if not feed.listeners:
                del self._feeds[device_id]

    def _listeners(self) -> list[Listener]:
        """Return each listener once."""
        return list({listener: None for feed in self._feeds.values() for listener in feed.listeners})

    # Wanted devices.

    async def _want(self) -> None:
        """Publish the wanted devices at intervals, and at each change. Without listeners close the connection."""
        waits = backoff()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._bounds.want_every_s):
                    await self._wanted_changed.wait()
            self._wanted_changed.clear()
            try:
                if self._feeds:
                    await self._reader.want(list(self._feeds))
                    for device_id in await self._reader.gone(list(self._feeds)):
                        self._remove(device_id)
                else:
                    await self._reader.close()
                waits = backoff()
            except RETRYABLE as error:
                _log.warning("the devices with live streams could not be announced", reason=str(diagnose(error)))
                await asyncio.sleep(next(waits))
                self._wanted_changed.set()

    def _remove(self, device_id: int) -> None:
        """End a deleted device on its streams. Streams of other devices leave its feed."""
        if feed := self._feeds.get(device_id):
            feed.remove(_DEVICE_IS_GONE)
            for listener in list(feed.listeners):
                if len(listener.devices) > 1:
                    self._leave(device_id, listener)

    def _on_wanted(self, payload: str) -> None:
        """Record the devices that any process wants. Once its own arrive, later transactions of writers know them."""
        if payload == LOOK_AGAIN:
            self.interest.begin()
            self._wanted_changed.set()
            return
        wanted = parse_wanted(payload)
        self.interest.add(wanted)
        for device_id in wanted:
            if feed := self._feeds.get(device_id):
                if feed.is_known.is_set() and feed.unconfirmed_s > self._bounds.expires_s:
                    feed.tell(Gap("the announcement of the device was late", feed.known_at - MARGIN))
                feed.confirm()
                feed.is_known.set()

    # Stored readings.

    def _on_stored(self, payload: str) -> None:
        if payload == LOOK_AGAIN:
            self._tell_all("the database was unavailable")
        elif span := parse_span(payload):
            if span.device_id != ANY_DEVICE and span.device_id not in self._feeds:
                return
            if len(self._spans) == MAX_SPANS:
                self._spans.clear()
                self._tell_all("more readings were stored than can be sent")
            self._spans.append(span)
            self._has_spans.set()

    def _tell_all(self, detail: str) -> None:
        for feed in self._feeds.values():
            if feed.is_known.is_set():
                feed.tell(Gap(detail, feed.known_at - MARGIN))
                feed.confirm()

    async def _read(self) -> None:
        while True:
            await self._has_spans.wait()
            self._has_spans.clear()
            while self._spans:
                await self._read_span(self._spans.popleft())

    async def _read_span(self, span: Span) -> None:
        devices = list(self._feeds) if span.device_id == ANY_DEVICE else [span.device_id]
        devices = [device_id for device_id in devices if device_id in self._feeds]
        if not devices:
            return
        try:
            if not await self._reader.read(span, devices, self._show):
                self._tell(devices, Gap("more readings were stored at once than can be sent", to_datetime(span.first)))
        except RETRYABLE as error:
            _log.warning("live readings could not be read", reason=str(diagnose(error)))
            self._tell(devices, Gap("the database did not respond", to_datetime(span.first)))

    def _show(self, reading: StoredReading) -> None:
        if feed := self._feeds.get(reading.device_id):
            feed.show(reading)

    def _tell(self, devices: Sequence[int], gap: Gap) -> None:
        for device_id in devices:
            if feed := self._feeds.get(device_id):
                feed.tell(gap)


def _no_place(why: str) -> Refused:
    return Refused(
        problems.UNAVAILABLE,
        f"{why}: retry in {problems.RETRY_AFTER_S} seconds",
        headers=problems.RETRY_AFTER,
    )
