"""A stream of readings through a broker, and the exact count of what became of it.

A client of the test's own has a session of its own beside the ingestor's: what it misses or has twice, the broker has
lost or doubled by itself.
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import msgspec

from shared.database import Connection
from tests.brokers.client import RawClient, connected
from tests.brokers.lab import Lab
from tests.brokers.packets import Delivery, acknowledge
from tests.brokers.plans import DEVICES, Plan, Value
from tests.waiting import eventually

TOPIC = "devices/+/stats"
CATCH_UP_S = 0.5
RESTLESS_S = 1.0
"""How long a restless client stays."""
QUIET_S = 3.0
"""After this long without a change all is there, if nothing is missing."""
LONG_QUIET_S = 30.0
"""… and if something is: brokers deliver again after 20 seconds."""
LOOK_EVERY_S = 0.5
SHOWN = 5

_ADD_DEVICES = "INSERT INTO devices (id, key, name) SELECT n, n::text, 'press' FROM generate_series(1, %s) n"
_STORED = """
    SELECT device_id, x, CASE WHEN %s THEN round(extract(epoch FROM recorded_at) * 1000)::bigint END, count(*)
    FROM readings GROUP BY 1, 2, 3
"""

_REFUSED = "SELECT reason, sum(readings), min(faults::text) FROM dead_letters GROUP BY reason"


class Count(msgspec.Struct, frozen=True):
    """Messages that the broker has acknowledged; how many Devicestat, and the client beside it, lost or had twice."""

    published: int
    lost: int
    twice: int
    lost_beside: int
    twice_beside: int
    lost_restless: int = 0
    missing: tuple[Value, ...] = ()  # the first of the lost

    @property
    def is_lost_by_broker(self) -> bool:
        """Whether a client that shares no code with Devicestat lost messages, too."""
        return self.lost_beside > 0 or self.lost_restless > 0

    def __str__(self) -> str:
        seen = []
        if self.lost_beside or self.twice_beside:
            seen.append(f"a client beside: {self.lost_beside:,} / {self.twice_beside:,}")
        if self.lost_restless:
            seen.append(f"a restless client: {self.lost_restless:,} lost")
        beside = f" ({'; '.join(seen)})" if seen else ""
        return f"{self.lost:,} / {self.twice:,} of {self.published:,}{beside}"


class Stream:
    """Publishes what the plan says at QoS 1, over a connection of its own each time.

    `published`: the values that the broker has acknowledged.
    """

    def __init__(self, lab: Lab, plan: Plan) -> None:
        self.published: Counter[Value] = Counter()
        self._lab = lab
        self._plan = plan
        self._rate = lab.entry.rate
        self._sent = 0
        self._halting = asyncio.Event()
        self._publishing: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        return self._sent

    def start(self) -> None:
        """Begin, or go on after `halt`."""
        self._halting.clear()
        self._publishing = asyncio.create_task(self._publish(), name="stream")

    async def halt(self) -> None:
        """Publish no more; return when all that was published is acknowledged."""
        self._halting.set()
        if self._publishing is not None:
            await self._publishing
        assert self.published.total() == self._sent

    async def cancel(self) -> None:
        """Publish no more, whatever the broker has acknowledged."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.wait([self._publishing])

    async def grows(self, by: int) -> None:
        """Wait until so many more messages are published."""
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
                await client.publish(value.topic, value.payload)
                self._sent += 1
                if self._sent % 20 == 0:
                    due = began + (self._sent - first) / self._rate
                    began += max(0.0, time.monotonic() - due - CATCH_UP_S)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
            await client.all_acknowledged()
            values = {(value.topic, value.payload): value for value in map(self._plan, range(first, self._sent))}
            for key, times in client.acknowledged.items():
                self.published[values[key]] += times


class Beside:
    """A session beside the ingestor's."""

    def __init__(self, lab: Lab, stack: AsyncExitStack) -> None:
        self.received: Counter[tuple[str, bytes]] = Counter()
        self._lab = lab
        self._stack = stack
        self._name = f"devicestat-beside-{uuid.uuid4().hex[:8]}"
        self._seen = 0
        self._client: RawClient | None = None

    async def connect(self) -> None:
        """Connect, or connect again, to the one session."""
        self.take()
        self._seen = 0
        self._client = await self._stack.enter_async_context(connected(self._lab.url, self._name))
        assert await self._client.subscribe(TOPIC) <= 1

    def hold(self) -> None:
        """Acknowledge nothing from here on, until the next connection."""
        assert self._client is not None
        self.take()
        self._client.holding = True

    def take(self) -> None:
        """Count what has come; what is not acknowledged will come again, and is not counted yet."""
        if self._client is not None:
            new = self._client.deliveries[self._seen :]
            self._seen += len(new)
            if not self._client.holding:
                self.received.update((each.topic, each.payload) for each in new)


class Restless:
    """A session whose client drops its connection again and again, with half of what it received unacknowledged.

    `received`: what it has acknowledged. What is missing there at the end, the broker has lost by itself.
    """

    def __init__(self, lab: Lab) -> None:
        self.received: Counter[tuple[str, bytes]] = Counter()
        self._lab = lab
        self._name = f"devicestat-restless-{uuid.uuid4().hex[:8]}"
        self._settling = asyncio.Event()
        self._client: RawClient | None = None
        self._seen = 0

    async def run(self) -> None:
        """Connect and drop the connection until `settle`; then stay, and acknowledge everything."""
        while not self._settling.is_set():
            with suppress(OSError, AssertionError):  # the broker is away
                async with self._connected(holding=True) as client:
                    await self._stay()
                    self._acknowledge(client, client.deliveries[: len(client.deliveries) // 2])
            await asyncio.sleep(LOOK_EVERY_S)
        async with self._connected(holding=False) as self._client:
            await self._client.gone.wait()

    async def _stay(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._settling.wait(), RESTLESS_S)

    async def subscribe(self) -> None:
        """Make the session."""
        async with self._connected(holding=True):
            pass

    def settle(self) -> None:
        """Have the last connection stay."""
        self._settling.set()

    def take(self) -> None:
        """Count what has come over the last connection."""
        if self._client is not None:
            new = self._client.deliveries[self._seen :]
            self._seen += len(new)
            self.received.update((each.topic, each.payload) for each in new)

    def _acknowledge(self, client: RawClient, deliveries: Sequence[Delivery]) -> None:
        client.send(b"".join(acknowledge(each.packet_id) for each in deliveries))
        self.received.update((each.topic, each.payload) for each in deliveries)

    @asynccontextmanager
    async def _connected(self, *, holding: bool) -> AsyncIterator[RawClient]:
        async with connected(self._lab.url, self._name, holding=holding) as client:
            await client.subscribe(TOPIC)
            yield client


@asynccontextmanager
async def restless(lab: Lab) -> AsyncIterator[Restless]:
    """A restless client, until the end of the block."""
    client = Restless(lab)
    await client.subscribe()
    task = asyncio.create_task(client.run(), name="restless")
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def beside(lab: Lab) -> AsyncIterator[Beside]:
    """A client beside the ingestor, connected."""
    async with AsyncExitStack() as stack:
        client = Beside(lab, stack)
        await client.connect()
        yield client


async def add_devices(database: Connection) -> None:
    """Register the devices of the plans."""
    await database.execute(_ADD_DEVICES, (DEVICES,))


async def count(database: Connection, stream: Stream, other: Beside, third: Restless) -> Count:
    """Count once nothing more comes."""
    loop = asyncio.get_running_loop()
    last, since = None, loop.time()
    while True:
        seen = await _count(database, stream, other, third)
        if seen != last:
            last, since = seen, loop.time()
        enough = LONG_QUIET_S if seen[0].lost or seen[0].is_lost_by_broker else QUIET_S
        if loop.time() - since > enough:
            return seen[0]
        await asyncio.sleep(LOOK_EVERY_S)


def _place(value: Value) -> tuple[int, float, int]:
    return value.device, value.x, value.time_ms or 0


async def _count(database: Connection, stream: Stream, other: Beside, third: Restless) -> tuple[Count, int]:
    expected = stream.published
    timed = next(iter(expected)).time_ms is not None
    rows = await (await database.execute(_STORED, (timed,))).fetchall()
    stored = Counter({Value(int(device), float(x), time_ms): int(many) for device, x, time_ms, many in rows})
    assert not stored.keys() - expected.keys(), "what nobody published"
    refused = await (await database.execute(_REFUSED)).fetchall()
    assert not refused, refused
    other.take()
    third.take()
    heard = Counter({value: other.received[value.topic, value.payload] for value in expected})
    lost = expected - stored
    found = Count(
        published=expected.total(),
        lost=lost.total(),
        twice=(stored - expected).total(),
        lost_beside=(expected - heard).total(),
        twice_beside=(heard - expected).total(),
        lost_restless=len({(each.topic, each.payload) for each in expected} - third.received.keys()),
        missing=tuple(sorted(lost, key=_place)[:SHOWN]),
    )
    return found, stored.total() + heard.total() + third.received.total()
