"""What the database tells the requests that wait: one connection listens for all of them.

A request asks for a channel and a key, and gets a queue. What was sent while the connection was away is lost:
so after each connection every queue gets an empty payload, upon which whoever waits looks for himself.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from psycopg import Notify

from shared.postgres.connections import Connection
from shared.postgres.listening import listen

LOOK_AGAIN = ""
"""Instead of a payload: something may have been missed."""
MAX_WAITING = 1000
"""Payloads in one queue; when it is full all of them give way to LOOK_AGAIN."""

Subscriber = Callable[[str], None]
"""Takes a payload; it neither waits nor raises."""
_Queues = set[asyncio.Queue[str]]


class Notifications:
    """One connection that listens for all waiting requests of this process."""

    def __init__(self, url: str, channels: Sequence[str]) -> None:
        self._url = url
        self._subscribers: dict[str, list[Subscriber]] = {channel: [] for channel in channels}
        self._queues: dict[tuple[str, str], _Queues] = {}

    async def run(self) -> None:
        """Listen until cancelled. The connection is opened again each time it is lost."""
        await listen(self._url, "api notifications", list(self._subscribers), self._attend)

    async def _attend(self, connection: Connection) -> None:
        self._look_again()
        async for notify in connection.notifies():
            self._pass_on(notify)

    @contextmanager
    def subscribe(self, channel: str, key: str) -> Iterator[asyncio.Queue[str]]:
        """The payloads that come on the channel until the end of the block and whose first word is the key.

        LOOK_AGAIN among them says that some may be missing.
        """
        assert channel in self._subscribers, f"nobody listens on {channel}"
        queue = asyncio.Queue[str](MAX_WAITING)
        queues = self._queues.setdefault((channel, key), set())
        queues.add(queue)
        try:
            yield queue
        finally:
            queues.remove(queue)
            if not queues:
                del self._queues[channel, key]

    def call(self, channel: str, subscriber: Subscriber) -> None:
        """From here on the subscriber is called with each payload that comes on the channel, and with LOOK_AGAIN."""
        self._subscribers[channel].append(subscriber)

    def _look_again(self) -> None:
        for subscribers in self._subscribers.values():
            for subscriber in subscribers:
                subscriber(LOOK_AGAIN)
        for queues in self._queues.values():
            _put(queues, LOOK_AGAIN)

    def _pass_on(self, notify: Notify) -> None:
        for subscriber in self._subscribers[notify.channel]:
            subscriber(notify.payload)
        key = notify.payload.partition(" ")[0]
        _put(self._queues.get((notify.channel, key), set()), notify.payload)


def _put(queues: _Queues, payload: str) -> None:
    for queue in queues:
        if queue.full():
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(LOOK_AGAIN)
        else:
            queue.put_nowait(payload)
