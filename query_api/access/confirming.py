"""Check the credentials of all streams of a process, in one statement over one connection (ADR 30).

Streams are live streams and downloads. A stream sends readings only within CONFIRMED_S of a statement that confirmed
its credential. If the database does not respond, or the connection is blocked, the stream is held back. After `held_s`
it ends.
"""

import asyncio
import time
from contextlib import suppress
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Gauge

from query_api.access.holding import holding, note_use
from shared.backoff import backoff
from shared.postgres.connections import RETRYABLE, Connection, connect
from shared.postgres.errors import diagnose

CHECK_S = 0.4
"""Interval of the statements."""
CONFIRMED_S = 1.0
"""Time from the start of a statement for which it confirms a credential."""
HELD_S = 10.0
"""A stream ends if its credential was not confirmed for this long."""
RETRY_CAP_S = 1.0
NOTE_USE_S = 60.0
"""Interval at which the last use of sessions is written."""

_TIMEOUT = "SELECT set_config('statement_timeout', '1s', false)"
_log = structlog.get_logger()


class Stream(Protocol):
    """A stream that may send only while its credential is valid.

    `credential`: None while AUTH is off. `confirmed_until`: it may send until this time of time.monotonic.
    """

    credential: str | None
    confirmed_until: float

    def confirm(self, until: float) -> None:
        """Let the stream send until this time of time.monotonic."""

    def lose(self) -> None:
        """End the stream: its credential is not valid any more."""

    def interrupt(self) -> None:
        """End the stream: its credential was not confirmed for `held_s`."""


class Credentials:
    """Confirms the credentials of streams, and ends the streams whose credential is not valid."""

    def __init__(self, url: str, registry: CollectorRegistry, held_s: float = HELD_S) -> None:
        """`held_s`: the time without confirmation that ends a stream."""
        self._url = url
        self._held_s = held_s
        self._streams: set[Stream] = set()
        self._soon = asyncio.Event()
        self._noted_at = -NOTE_USE_S
        self._held = Gauge(
            "devicestat_http_live_held",
            "Live streams and downloads that send nothing until their credential is confirmed.",
            registry=registry,
        )  # fmt: skip

    def add(self, stream: Stream) -> None:
        """Check the credential of the stream now and from now on, until `remove`."""
        if stream.credential is not None:
            self._streams.add(stream)
            self._soon.set()

    def remove(self, stream: Stream) -> None:
        """Check the stream no more. It may be called twice."""
        self._streams.discard(stream)

    async def run(self) -> None:
        """Check credentials, and end streams that are held back, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._check(), name="credentials of streams")
            tasks.create_task(self._watch(), name="streams held back")

    async def _check(self) -> None:
        """Send the statement every CHECK_S. If the server hangs, this waits and no stream sends readings."""
        waits, is_known = backoff(cap=RETRY_CAP_S), False
        while True:
            await self._next_time()
            if not self._current():
                continue
            try:
                async with await connect(self._url, "api credentials of streams") as connection:
                    await connection.execute(_TIMEOUT)
                    while self._current():
                        await self._ask(connection)
                        waits, is_known = backoff(cap=RETRY_CAP_S), False
                        await self._next_time()
            except RETRYABLE as error:
                if not is_known:
                    _log.warning(
                        "live streams and downloads are held back: their keys cannot be checked",
                        reason=str(diagnose(error)),
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
        return {stream.credential for stream in self._streams if stream.credential is not None}

    async def _ask(self, connection: Connection) -> None:
        credentials, asked_at = self._current(), time.monotonic()
        found = await holding(connection, credentials)
        if asked_at - self._noted_at >= NOTE_USE_S:
            await note_use(connection, found)
            self._noted_at = asked_at
        for stream in list(self._streams):
            if stream.credential in found:
                stream.confirm(until=asked_at + CONFIRMED_S)
            elif stream.credential in credentials:
                stream.lose()

    async def _watch(self) -> None:
        """End streams that are held back for too long."""
        while True:
            await asyncio.sleep(CHECK_S)
            now = time.monotonic()
            held = [stream for stream in self._streams if now >= stream.confirmed_until]
            self._held.set(len(held))
            for stream in held:
                if now > stream.confirmed_until - CONFIRMED_S + self._held_s:
                    stream.interrupt()
