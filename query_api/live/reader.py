"""The one connection over which a process reads for all its listeners, and says what they want."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from query_api.readings.record import StoredReading
from shared.postgres.connections import RETRYABLE, Connection, connect
from shared.readings.announce import Span, want
from shared.readings.model import to_datetime

MAX_READINGS = 20_000
"""Of one span. What one batch brings of a device seldom comes to that."""
FETCH_ROWS = 500
SETTLE_POLL_S = 0.02
MAX_SEEN = 50_000
"""The numbers of so many readings are remembered, so that none is shown twice: the spans of two writers overlap."""


class Seen:
    """The numbers that were seen last."""

    def __init__(self, size: int) -> None:
        self._ids: set[int] = set()
        self._in_order = deque[int](maxlen=size)

    def is_new(self, reading_id: int) -> bool:
        """Whether it is seen for the first time, as far as is remembered."""
        if reading_id in self._ids:
            return False
        if len(self._in_order) == self._in_order.maxlen:
            self._ids.remove(self._in_order[0])
        self._in_order.append(reading_id)
        self._ids.add(reading_id)
        return True


# Whoever stores readings passes the fence of shared.readings.deletions, and holds its lock until the end.
_BATCHES = """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = hashtext('devicestat')::oid AND objid = hashtext('deletion')::oid
"""
# Where the readings of a span are few and what lies between them is much, the search is given up.
_LIMITS = "SELECT set_config('statement_timeout', '5s', false)"
READ = """
    SELECT id, device_id, x, y, z, recorded_at FROM readings
    WHERE device_id = ANY(%(devices)s)
      AND recorded_at BETWEEN %(first)s AND %(last)s
      AND received_at BETWEEN %(received_first)s AND %(received_last)s
    ORDER BY received_at, id
    LIMIT %(limit)s
"""


_GONE = "SELECT wanted FROM unnest(%s::bigint[]) AS wanted WHERE NOT EXISTS (SELECT FROM devices WHERE id = wanted)"


class LiveReader:
    """Reads where a span says. It connects when it is needed, and raises one of RETRYABLE where it cannot."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._in_use = asyncio.Lock()
        self._seen = Seen(MAX_SEEN)

    async def want(self, devices: Sequence[int]) -> None:
        """Says to those who store readings that someone listens to these devices."""
        async with self._use() as connection:
            await want(connection, devices)

    async def gone(self, devices: Sequence[int]) -> list[int]:
        """Those of the devices that have been deleted."""
        async with self._use() as connection:
            return [row[0] for row in await (await connection.execute(_GONE, (list(devices),))).fetchall()]

    async def settle(self) -> None:
        """Returns when the batches that were being written have ended: later ones know what was said before it."""
        async with self._use() as connection:
            batches = [row[0] for row in await (await connection.execute(_BATCHES)).fetchall()]
        while batches:
            await asyncio.sleep(SETTLE_POLL_S)
            async with self._use() as connection:
                left = {row[0] for row in await (await connection.execute(_BATCHES)).fetchall()}
            batches = [batch for batch in batches if batch in left]

    async def read(self, span: Span, devices: Sequence[int], show: Callable[[StoredReading], None]) -> bool:
        """Shows the devices' readings in the span, in the order of receipt, but for those that it has shown before.

        False where there may be more of them than MAX_READINGS.
        """
        count = 0
        async with self._use() as connection, connection.cursor() as cursor:
            rows = cursor.stream(READ, read_parameters(span, devices), binary=True, size=FETCH_ROWS)
            async for reading_id, device_id, x, y, z, recorded_at in rows:
                count += 1
                if self._seen.is_new(reading_id):
                    show(StoredReading(id=reading_id, device_id=device_id, x=x, y=y, z=z, timestamp=recorded_at))
        return count < MAX_READINGS

    async def close(self) -> None:
        """Closes the connection, until it is needed again."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[Connection]:
        async with self._in_use:
            try:
                if self._connection is None:
                    self._connection = await connect(self._url, "api live")
                    await self._connection.execute(_LIMITS)
                yield self._connection
            except RETRYABLE:
                await self.close()
                raise


def read_parameters(span: Span, devices: Sequence[int]) -> dict[str, object]:
    """Of the query that looks where the span says."""
    return {
        "devices": list(devices),
        "first": to_datetime(span.first),
        "last": to_datetime(span.last),
        "received_first": to_datetime(span.received_first),
        "received_last": to_datetime(span.received_last),
        "limit": MAX_READINGS,
    }
