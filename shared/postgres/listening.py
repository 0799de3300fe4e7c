"""Listening for NOTIFY over a connection that is reopened when it is lost.

`listen` keeps the connection. `Notifications` delivers payloads to several subscribers over one connection: each
subscribes to a key on a channel and gets a queue. Notifications are lost while the connection is down. So after each
connect every queue gets LOOK_AGAIN, and its reader then queries the database.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import structlog
from psycopg import Notify, sql

from shared.backoff import backoff
from shared.postgres.connections import RETRYABLE, Connection, Prepare, connect
from shared.postgres.errors import diagnose

Attend = Callable[[Connection], Awaitable[None]]
"""Uses the connection until it is lost."""
LOOK_AGAIN = ""
"""Payload that replaces notifications which may have been lost."""
MAX_WAITING = 1000
"""Payloads in one queue. LOOK_AGAIN replaces all payloads of a full queue."""

Subscriber = Callable[[str], None]
"""Receives a payload. It must neither block nor raise."""
_Queues = set[asyncio.Queue[str]]
_log = structlog.get_logger()


async def _nothing(_: Connection) -> None:
    pass


async def listen(
    url: str,
    application: str,
    channels: Sequence[str],
    attend: Attend,
    *,
    prepare: Prepare = _nothing,
    failure_event: str | None = None,
) -> NoReturn:
    """Run `attend` on a connection that listens on the channels; after each loss run it on a new one, until cancelled.

    A NOTIFY that is sent between two connections is lost, so `attend` first looks for what it may have missed.
    `prepare` runs after LISTEN; the delay between attempts grows until it succeeds.
    `failure_event` is the log event of the first failure in a row; None logs nothing.
    """
    listens = sql.SQL("; ").join(sql.SQL("LISTEN {}").format(sql.Identifier(channel)) for channel in channels)
    waits, is_logged = backoff(), False
    while True:
        try:
            async with await connect(url, application) as connection:
                await connection.execute(listens)
                await prepare(connection)
                waits, is_logged = backoff(), False
                await attend(connection)
        except RETRYABLE as error:
            if failure_event is not None and not is_logged:
                _log.warning(failure_event, reason=str(diagnose(error)))
            is_logged = True
            await asyncio.sleep(next(waits))


class Notifications:
    """The subscriptions of this process, over one connection."""

    def __init__(self, url: str, channels: Sequence[str], max_waiting: int = MAX_WAITING) -> None:
        self._url = url
        self._max_waiting = max_waiting
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
        """Yield a queue of the channel's payloads whose first word is the key.

        LOOK_AGAIN in the queue means that payloads may be missing.
        """
        assert channel in self._subscribers, f"no subscription to {channel}"
        queue = asyncio.Queue[str](self._max_waiting)
        queues = self._queues.setdefault((channel, key), set())
        queues.add(queue)
        try:
            yield queue
        finally:
            queues.remove(queue)
            if not queues:
                del self._queues[channel, key]

    def add_subscriber(self, channel: str, subscriber: Subscriber) -> None:
        """Call the subscriber with each payload of the channel from now on, and with LOOK_AGAIN."""
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
