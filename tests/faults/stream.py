"""A stream of numbered readings during a fault, and the count of its outcomes.

The number of a reading is in x and y. Without a timestamp, a duplicate is a second row. So the rows are compared with
0, 1, 2, … by value, in SQL.
"""

import asyncio
import math
import operator
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from paho.mqtt.client import Client

from shared.postgres.connections import Connection
from tests.conftest import Broker
from tests.ingestion import IngestorProcess, metrics
from tests.publisher import Message, connected, publish
from tests.waiting import HANG_S, eventually

UNACKNOWLEDGED = 400
"""Most readings in flight to the broker. paho iterates over all of them at each PUBACK."""
RATE = 2_000.0
"""A restart takes seconds. At a higher rate the processor serves the stream in place of the tests beside it."""
FLAT_OUT = math.inf
PAUSE_S = 0.01
CATCH_UP_S = 0.5
"""Most time that the stream catches up after a stall of the broker or the machine."""
MARKERS = 50
"""Markers that are published last, for their own device; enough for each member of a group."""
SETTLED_WITHIN_S = 5.0

IN_FLIGHT = "devicestat_ingest_readings_in_flight"
_ADD_DEVICES = "INSERT INTO devices (id, key, name) VALUES (1, '1', 'press'), (2, '2', 'marker') ON CONFLICT DO NOTHING"


def reading(number: int, padding: str = "") -> bytes:
    """Return the JSON of a numbered reading; the padding is an unknown field."""
    millions, rest = divmod(number, 1_000_000)
    note = b',"note":"%s"' % padding.encode() if padding else b""
    return b'{"x":%d.%03d,"y":%d,"z":0%s}' % (*divmod(rest, 1000), millions, note)


class Stream:
    """Publishes readings 0, 1, 2, … at QoS 1 with a client that shares no code with the product.

    `size`: readings in a message; more than one are an array. `rate`: maximum of readings a second, so that the product
    has the processor. `keys`: of the devices that take turns.
    """

    def __init__(
        self, broker: Broker, *, size: int = 1, padding: str = "", rate: float = RATE, keys: Sequence[str] = ("1",)
    ) -> None:
        self.acknowledged = 0  # messages
        self.marked = 0  # markers
        self._broker = broker
        self._size = size
        self._padding = padding
        self._interval_s = size / rate
        self._topics = [f"devices/{key}/stats" for key in keys]
        self._most = max(8, UNACKNOWLEDGED // size)
        self._sent = 0
        self._halting = threading.Event()
        self._room = threading.Condition()
        self._faults: list[str] = []
        self._publishing: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """Number of readings that the broker acknowledged."""
        return self.acknowledged * self._size

    async def start(self) -> None:
        """Begin, or continue after `halt`, with a new connection."""
        self._halting.clear()
        self._publishing = asyncio.create_task(asyncio.to_thread(self._publish), name="stream")

    async def halt(self) -> None:
        """Stop publishing; wait until all messages are acknowledged."""
        self._halting.set()
        if self._publishing is not None:
            await self._publishing
        assert self.acknowledged == self._sent

    async def mark(self) -> None:
        """Publish the markers."""
        markers = [Message(reading(n), "devices/2/stats") for n in range(self.marked, self.marked + MARKERS)]
        self.marked += await publish(self._broker.host, self._broker.port, *markers)

    async def grows(self, by: int = 1) -> None:
        """Wait until the broker has acknowledged `count` more messages."""
        await self.reaches(self.acknowledged + by)

    async def reaches(self, messages: int) -> None:
        """Wait until the broker has acknowledged `count` messages; fail if the stream stalls."""

        async def look() -> int:
            if self._publishing is not None and self._publishing.done():
                self._publishing.result()
            return self.acknowledged

        seen = self.acknowledged
        while seen < messages:
            seen = await eventually(look, partial(operator.lt, seen))

    def _publish(self) -> None:
        with connected(self._broker.host, self._broker.port) as client:
            client.on_publish = self._on_publish
            client.on_disconnect = self._on_disconnect
            due = time.monotonic()
            while not self._halting.is_set() and not self._faults:
                if self._sent - self.acknowledged >= self._most:
                    self._wait_for(self._most // 2)
                topic = self._topics[self._sent % len(self._topics)]
                client.publish(topic, self._payload(self._sent), qos=1)
                self._sent += 1
                due = max(due + self._interval_s, time.monotonic() - CATCH_UP_S)
                if due > time.monotonic() + PAUSE_S:
                    self._halting.wait(PAUSE_S)
            self._wait_for(0)
            client.on_disconnect = None
        assert not self._faults, Counter(self._faults)

    def _payload(self, message: int) -> bytes:
        if self._size == 1:
            return reading(message, self._padding)
        first = message * self._size
        return b"[" + b",".join(reading(n, self._padding) for n in range(first, first + self._size)) + b"]"

    def _wait_for(self, unacknowledged: int) -> None:
        def enough() -> bool:
            return bool(self._faults) or self._sent - self.acknowledged <= unacknowledged

        with self._room:
            in_time = self._room.wait_for(enough, HANG_S)
        assert in_time, f"{self._sent - self.acknowledged} not acknowledged within {HANG_S:g} s"

    def _on_publish(self, client: Client, data: object, mid: int, reason_code: object, properties: object) -> None:
        self.acknowledged += 1
        if reason_code != 0:  # such as 16, "no matching subscribers": there is no session for the message
            self._faults.append(f"acknowledged with {reason_code}")
        if self._sent - self.acknowledged in (0, self._most // 2):
            with self._room:
                self._room.notify()

    def _on_disconnect(self, *given: object) -> None:
        with self._room:
            self._faults.append(f"the broker has ended the publisher's connection: {given[3]}")
            self._room.notify()


@asynccontextmanager
async def publishing(
    broker: Broker, *, at_least: int = 0, size: int = 1, padding: str = "", rate: float = RATE
) -> AsyncIterator[Stream]:
    """Run a stream during the block, and until `least` messages are acknowledged."""
    stream = Stream(broker, size=size, padding=padding, rate=rate)
    await stream.start()
    try:
        yield stream
        await stream.reaches(at_least)
    finally:
        await stream.halt()


async def add_devices(database: Connection) -> None:
    """Register the device of the stream, and that of its markers."""
    await database.execute(_ADD_DEVICES)


_MARKERS = "SELECT count(*) FROM readings WHERE device_id = 2"
_COMPARE = """
    WITH numbers AS MATERIALIZED (
        SELECT round(x * 1000)::bigint + 1000000 * y::bigint AS n FROM readings WHERE device_id = 1
    ),
    missing AS (SELECT n FROM generate_series(0, %(count)s::bigint - 1) n EXCEPT SELECT n FROM numbers),
    doubled AS (SELECT n FROM numbers GROUP BY n HAVING count(*) > 1),
    strange AS (SELECT n FROM numbers EXCEPT SELECT n FROM generate_series(0, %(count)s::bigint - 1) n)
    SELECT 'missing', count(*), (array_agg(n ORDER BY n))[:20] FROM missing
    UNION ALL SELECT 'doubled', count(*), (array_agg(n ORDER BY n))[:20] FROM doubled
    UNION ALL SELECT 'never published', count(*), (array_agg(n ORDER BY n))[:20] FROM strange
    UNION ALL SELECT 'dead letters: ' || reason, count(*), array_agg(id) FROM dead_letters GROUP BY reason
"""


async def expect_each_once(database: Connection, stream: Stream) -> None:
    """Wait until all messages are stored, and assert that each reading is stored once.

    A session delivers in order. So when the markers are stored, all earlier messages are, including duplicates.
    """
    await stream.mark()
    await eventually(partial(_markers, database), lambda seen: seen >= stream.marked)
    await eventually(partial(_faults, database, stream.count), lambda seen: not seen, deadline_s=SETTLED_WITHIN_S)
    assert await _markers(database) == stream.marked


async def _markers(database: Connection) -> int:
    (row,) = await (await database.execute(_MARKERS)).fetchall()
    return int(row[0])


async def _faults(database: Connection, count: int) -> list[str]:
    rows = await (await database.execute(_COMPARE, {"count": count})).fetchall()
    return [f"{many} of {count} {what}: {which}" for what, many, which in rows if many]


async def expect_counts_to_add_up(port: int) -> dict[str, float]:
    """Assert that the ingestor's counts add up for all received readings; return its metrics."""
    figures = await metrics(port)
    kinds = ("received_total", "stored_total", "duplicate_total", "rejected_total", "in_flight")
    received, *fates = (
        sum(value for name, value in figures.items() if name.startswith(f"devicestat_ingest_readings_{kind}"))
        for kind in kinds
    )
    assert received == sum(fates), dict(zip(kinds, (received, *fates), strict=True))
    return figures


async def expect_a_good_end(process: IngestorProcess) -> str:
    """Assert that the ingestor still runs, that its counts add up, and that it stops cleanly. Return its log."""
    await expect_counts_to_add_up(process.port)
    code, logged = await process.end()
    assert code == 0, logged
    assert "Traceback" not in logged
    return logged
