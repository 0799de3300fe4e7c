"""A stream of readings through a broker, and an exact count of the outcomes.

Each message has a number, and `tap` records which messages the ingestors acknowledge. This distinguishes losses of
Devicestat from messages that the broker did not deliver. A client of the test has a second session for comparison.
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec

from shared.postgres.connections import Connection
from tests.brokers.client import RawClient, connected
from tests.brokers.lab import Lab
from tests.brokers.plans import DEVICES, Plan, Value
from tests.brokers.tap import Tap
from tests.waiting import eventually

TOPIC = "devices/+/stats"
CATCH_UP_S = 0.5
QUIET_S = 3.0
"""Time without a change after which the count is final, if nothing is missing."""
LONG_QUIET_S = 30.0
"""The same if something is missing: some brokers redeliver after 20 seconds."""
LOOK_EVERY_S = 0.5
SHOWN = 5

_ADD_DEVICES = "INSERT INTO devices (id, key, name) SELECT n, n::text, 'press' FROM generate_series(1, %s) n"
_STORED = """
    SELECT device_id, x, CASE WHEN %s THEN round(extract(epoch FROM recorded_at) * 1000)::bigint END, count(*)
    FROM readings GROUP BY 1, 2, 3
"""

_REFUSED = "SELECT reason, sum(readings), min(faults::text) FROM dead_letters GROUP BY reason"


class Count(msgspec.Struct, frozen=True):
    """Outcomes of the messages that the broker acknowledged to the publisher.

    `lost`, `twice`: readings that are not stored, or stored twice. `broken`: readings that an ingestor acknowledged and
    that are not stored. `owed`: messages that no ingestor acknowledged. `undelivered`: those of them that never reached
    an ingestor. `_beside`: counts of the client for comparison.
    """

    published: int
    lost: int
    twice: int
    broken: int
    owed: int
    undelivered: int
    lost_beside: int
    twice_beside: int
    missing: tuple[Value, ...] = ()  # the first lost readings

    def __str__(self) -> str:
        seen = []
        if self.lost:
            whose = f"{self.undelivered:,} never, {self.owed - self.undelivered:,} not again"
            seen.append(f"the broker did not deliver {self.owed:,}: {whose}")
            seen.append(f"acknowledged by Devicestat and not stored: {self.broken:,}")
        if self.lost_beside or self.twice_beside:
            seen.append(f"reference client: {self.lost_beside:,} / {self.twice_beside:,}")
        return f"{self.lost:,} / {self.twice:,} of {self.published:,}" + (f" ({'; '.join(seen)})" if seen else "")


class Stream:
    """Publishes the messages of a plan at QoS 1, with a new connection after each `halt`.

    `numbers`: numbers of the messages that the broker acknowledged.
    """

    def __init__(self, lab: Lab, plan: Plan) -> None:
        self.numbers: set[int] = set()
        self._lab = lab
        self._plan = plan
        self._rate = lab.entry.rate
        self._sent = 0
        self._halting = asyncio.Event()
        self._publishing: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        return self._sent

    def values(self, numbers: Iterable[int]) -> Counter[Value]:
        """Return the readings of these messages."""
        return Counter(map(self._plan, numbers))

    def start(self) -> None:
        """Begin, or continue after `halt`."""
        self._halting.clear()
        self._publishing = asyncio.create_task(self._publish(), name="stream")

    async def halt(self) -> None:
        """Stop publishing; wait until all messages are acknowledged."""
        self._halting.set()
        if self._publishing is not None:
            await self._publishing
        assert len(self.numbers) == self._sent

    async def cancel(self) -> None:
        """Stop publishing, without waiting for acknowledgements."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.wait([self._publishing])

    async def grows(self, by: int) -> None:
        """Wait until `count` more messages are published."""
        ends = self._sent + by

        async def look() -> int:
            if self._publishing is not None and self._publishing.done():
                self._publishing.result()
            return self._sent

        seen = self._sent
        while seen < ends:
            seen = await eventually(look, partial(int.__lt__, seen))

    async def _publish(self) -> None:
        async with connected(self._lab.url, f"devicestat-test-{uuid.uuid4().hex[:8]}", clean=True) as client:
            began, first = time.monotonic(), self._sent
            while not self._halting.is_set():
                value = self._plan(self._sent)
                await client.publish(value.topic, value.payload, self._sent)
                self._sent += 1
                if self._sent % 20 == 0:
                    due = began + (self._sent - first) / self._rate
                    began += max(0.0, time.monotonic() - due - CATCH_UP_S)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
            await client.all_acknowledged()
            self.numbers |= client.numbers


class Beside:
    """A session for comparison with the ingestor's."""

    def __init__(self, lab: Lab, stack: AsyncExitStack) -> None:
        self.received: Counter[tuple[str, bytes]] = Counter()
        self._lab = lab
        self._stack = stack
        self._name = f"devicestat-beside-{uuid.uuid4().hex[:8]}"
        self._seen = 0
        self._client: RawClient | None = None

    async def connect(self) -> None:
        """Connect, or reconnect, to the session."""
        self.take()
        self._seen = 0
        self._client = await self._stack.enter_async_context(connected(self._lab.url, self._name))
        assert await self._client.subscribe(TOPIC) <= 1

    def hold(self) -> None:
        """Acknowledge nothing from now on, until the next connection."""
        assert self._client is not None
        self.take()
        self._client.holding = True

    def take(self) -> None:
        """Count acknowledged messages; the others will be redelivered."""
        if self._client is not None:
            new = self._client.deliveries[self._seen :]
            self._seen += len(new)
            if not self._client.holding:
                self.received.update((each.topic, each.payload) for each in new)


@asynccontextmanager
async def beside(lab: Lab) -> AsyncIterator[Beside]:
    """Connect a client for comparison with the ingestor."""
    async with AsyncExitStack() as stack:
        client = Beside(lab, stack)
        await client.connect()
        yield client


async def add_devices(database: Connection) -> None:
    """Register the devices of the plans."""
    await database.execute(_ADD_DEVICES, (DEVICES,))


async def count(database: Connection, stream: Stream, other: Beside, tap: Tap) -> Count:
    """Count when no more messages arrive."""
    loop = asyncio.get_running_loop()
    last, since = None, loop.time()
    while True:
        seen = await _count(database, stream, other, tap)
        if seen != last:
            last, since = seen, loop.time()
        if loop.time() - since > (LONG_QUIET_S if seen.lost or seen.lost_beside else QUIET_S):
            return seen
        await asyncio.sleep(LOOK_EVERY_S)


def _place(value: Value) -> tuple[int, float, int]:
    return value.device, value.x, value.time_ms or 0


async def _count(database: Connection, stream: Stream, other: Beside, tap: Tap) -> Count:
    expected = stream.values(stream.numbers)
    stored = await _stored(database, timed=next(iter(expected)).time_ms is not None)
    assert not stored.keys() - expected.keys(), "rows that were never published"
    other.take()
    heard = Counter({value: other.received[value.topic, value.payload] for value in expected})
    lost = expected - stored
    return Count(
        published=expected.total(),
        lost=lost.total(),
        twice=(stored - expected).total(),
        broken=(stream.values(tap.acknowledged) - stored).total(),
        owed=len(stream.numbers - tap.acknowledged),
        undelivered=len(stream.numbers - tap.delivered),
        lost_beside=(expected - heard).total(),
        twice_beside=(heard - expected).total(),
        missing=tuple(sorted(lost, key=_place)[:SHOWN]),
    )


async def _stored(database: Connection, *, timed: bool) -> Counter[Value]:
    refused = await (await database.execute(_REFUSED)).fetchall()
    assert not refused, refused
    rows = await (await database.execute(_STORED, (timed,))).fetchall()
    return Counter({Value(int(device), float(x), time_ms): int(many) for device, x, time_ms, many in rows})
