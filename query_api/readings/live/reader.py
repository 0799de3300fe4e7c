"""Read stored readings for all listeners of a process, and publish the devices that they want, over one connection."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from query_api.readings.record import StoredReading
from shared.postgres.connections import RETRYABLE, Connection, connect
from shared.readings.announce import Span, want
from shared.readings.model import to_datetime

MAX_READINGS = 20_000
"""Most readings of one span. A batch seldom has as many of one device."""
FETCH_ROWS = 500
SETTLE_POLL_S = 0.02
MAX_SEEN = 50_000
"""Most recent ids that are cached. The spans of two writers overlap, and a reading must not be sent twice."""


class Seen:
    """The most recent ids."""

    def __init__(self, size: int) -> None:
        self._ids: set[int] = set()
        self._in_order = deque[int](maxlen=size)

    def is_new(self, reading_id: int) -> bool:
        """Add the id. Return whether it was not in the cache."""
        if reading_id in self._ids:
            return False
        if len(self._in_order) == self._in_order.maxlen:
            self._ids.remove(self._in_order[0])
        self._in_order.append(reading_id)
        self._ids.add(reading_id)
        return True


# A transaction that stores readings holds the lock of the fence of shared.readings.deletions until its end.
_BATCHES = """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = hashtext('devicestat')::oid AND objid = hashtext('deletion')::oid
"""
# A query is given up if a span has few readings, and many others lie between them.
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
    """Reads the readings of spans. It connects on demand. Its methods raise one of RETRYABLE."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._in_use = asyncio.Lock()
        self._seen = Seen(MAX_SEEN)

    async def want(self, devices: Sequence[int]) -> None:
        """Publish to all writers that these devices have listeners."""
        async with self._use() as connection:
            await want(connection, devices)

    async def gone(self, devices: Sequence[int]) -> list[int]:
        """Return the devices that were deleted."""
        async with self._use() as connection:
            return [row[0] for row in await (await connection.execute(_GONE, (list(devices),))).fetchall()]

    async def settle(self) -> None:
        """Wait for the end of the batches that are in progress. Later batches know the devices published before."""
        async with self._use() as connection:
            batches = [row[0] for row in await (await connection.execute(_BATCHES)).fetchall()]
        while batches:
            await asyncio.sleep(SETTLE_POLL_S)
            async with self._use() as connection:
                left = {row[0] for row in await (await connection.execute(_BATCHES)).fetchall()}
            batches = [batch for batch in batches if batch in left]

    async def read(self, span: Span, devices: Sequence[int], show: Callable[[StoredReading], None]) -> bool:
        """Call `show` with each reading of the devices in the span, once, in the order of receipt.

        Return False if there may be more than MAX_READINGS.
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
        """Close the connection. The next method opens it again."""
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
    """Return the parameters of READ."""
    return {
        "devices": list(devices),
        "first": to_datetime(span.first),
        "last": to_datetime(span.last),
        "received_first": to_datetime(span.received_first),
        "received_last": to_datetime(span.received_last),
        "limit": MAX_READINGS,
    }
