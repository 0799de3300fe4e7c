"""Check the credentials of all live streams of a process, in one statement over one connection (ADR 30).

A stream sends readings only within CONFIRMED_S of a statement that confirmed its credential. If the database does not
respond, or the connection is blocked, the stream holds events back. After `held_s` it ends.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from prometheus_client import CollectorRegistry, Gauge

from query_api.access.holding import holding, note_use
from query_api.readings.live.listeners import LIVE, End, Interrupted, Listener
from shared.backoff import backoff
from shared.postgres.connections import RETRYABLE, Connection, connect
from shared.postgres.errors import diagnose

CHECK_S = 0.4
"""Interval of the statements."""
CONFIRMED_S = 1.0
"""Time from the start of a statement for which it confirms a credential."""
RETRY_CAP_S = 1.0
NOTE_USE_S = 60.0
"""Interval at which the last use of sessions is written."""

_KEY_IS_LOST = End("the key has expired or was revoked, or the session has ended")
_UNCONFIRMED = Interrupted("the key could not be checked: reconnect")
_TIMEOUT = "SELECT set_config('statement_timeout', '1s', false)"
_log = structlog.get_logger()


class Credentials:
    """Confirms the credentials of the listeners, and ends streams whose credential is not valid."""

    def __init__(
        self,
        url: str,
        listeners: Callable[[], Sequence[Listener]],
        registry: CollectorRegistry,
        held_s: float = LIVE.held_s,
    ) -> None:
        """`listeners`: returns the current listeners. `held_s`: the time without confirmation that ends a stream."""
        self._url = url
        self._held_s = held_s
        self._listeners = listeners
        self._soon = asyncio.Event()
        self._noted_at = -NOTE_USE_S
        self._held = Gauge(
            "devicestat_http_live_held", "Live streams that hold events back until their credential is confirmed.",
            registry=registry,
        )  # fmt: skip

    def check_soon(self) -> None:
        """Send the next statement immediately, for a new listener."""
        self._soon.set()

    async def run(self) -> None:
        """Check credentials, and end streams that are held back, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._check(), name="live credentials")
            tasks.create_task(self._watch(), name="live streams held back")

    async def _check(self) -> None:
        """Send the statement every CHECK_S. If the server hangs, this waits and no stream sends readings."""
        waits, is_known = backoff(cap=RETRY_CAP_S), False
        while True:
            await self._next_time()
            if not self._current():
                continue
            try:
                async with await connect(self._url, "api live credentials") as connection:
                    await connection.execute(_TIMEOUT)
                    while self._current():
                        await self._ask(connection)
                        waits, is_known = backoff(cap=RETRY_CAP_S), False
                        await self._next_time()
            except RETRYABLE as error:
                if not is_known:
                    _log.warning(
                        "live streams are held back: their keys cannot be checked", reason=str(diagnose(error))
                    )
                is_known = True
                await asyncio.sleep(next(waits))
                self._soon.set()

    async def _next_time(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_S):
                await self._soon.wait()
        self._soon.clear()

    def _current(self) -> set[str]:
        """Return the credentials of all streams."""
        return {listener.credential for listener in self._listeners() if listener.credential is not None}

    async def _ask(self, connection: Connection) -> None:
        credentials, asked_at = self._current(), time.monotonic()
        found = await holding(connection, credentials)
        if asked_at - self._noted_at >= NOTE_USE_S:
            await note_use(connection, found)
            self._noted_at = asked_at
        for listener in self._listeners():
            if listener.credential in found:
                listener.confirm(until=asked_at + CONFIRMED_S)
            elif listener.credential in credentials:
                listener.end(_KEY_IS_LOST)

    async def _watch(self) -> None:
        """End streams that are held back for too long."""
        while True:
            await asyncio.sleep(CHECK_S)
            now = time.monotonic()
            held = [listener for listener in self._listeners() if not listener.is_confirmed]
            self._held.set(len(held))
            for listener in held:
                if now > listener.confirmed_until - CONFIRMED_S + self._held_s:
                    listener.end(_UNCONFIRMED)
