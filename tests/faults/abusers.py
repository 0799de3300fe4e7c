"""Abusive clients, a changing clock, and hostile database settings. Each acts during its block, and counts its actions.

A test must assert that the count grew: an abuser that did nothing proves nothing.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import cycle

import httpx
import msgspec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.conftest import Broker
from tests.faketime import SteppingClock
from tests.publisher import connected
from tests.waiting import HANG_S

ARRAY = 10_000
"""Readings or bad elements in one message of the flood: the maximum of an array."""
TINY = 1_048_575
"""Elements of an array that is too long."""
_BAD = b"[" + b"0," * (ARRAY - 1) + b"0]"
_GOOD = b"[" + b'{"x":1,"y":2,"z":3},' * (ARRAY - 1) + b'{"x":1,"y":2,"z":3}]'
_TOO_MANY = b"[" + b"0," * (TINY - 1) + b"0]"
_UTF16 = '{"x":1,"y":2,"z":3}'.encode("utf-16")
_FLOOD = (_BAD, _GOOD, _TOO_MANY, _UTF16, b"")
FLOOD_PAUSE_S = 0.2
"""Pause between messages. A longer flood that is faster than PostgreSQL would fill the broker's queue."""

HOARDERS = 16
STANDING_STILL = 6
STAND_STILL_S = 5.0
FIRST_FIGHT_S = 5.0
FIGHT_PAUSE_S = 75.0
"""Pause between two takeovers. The ingestor pauses longer after each takeover within a minute (ADR 29)."""
FIGHT_HOLD_S = 0.3
_SESSION_EXPIRY_S = 7 * 24 * 3600
STEPS = (-7200, 0, 7200, 0, -86_400, 0)
"""Offsets of the clock in seconds, in turn."""
STEP_PAUSE_S = 7.0


class Flood(msgspec.Struct):
    """Number of messages of the flood that the broker acknowledged."""

    messages: int = 0
    good: int = 0


@contextmanager
def flooding(broker: Broker, key: str) -> Iterator[Flood]:
    """Publish bad arrays, arrays of 10,000, too long arrays, UTF-16 and empty payloads as the device `key`."""
    flood, over = Flood(), threading.Event()
    thread = threading.Thread(target=_flood, args=(broker, f"devices/{key}/stats", flood, over), name="flood")
    thread.start()
    try:
        yield flood
    finally:
        over.set()
        thread.join()


def _flood(broker: Broker, topic: str, flood: Flood, over: threading.Event) -> None:
    with connected(broker.host, broker.port) as client:
        for payload in cycle(_FLOOD):
            client.publish(topic, payload, qos=1).wait_for_publish(HANG_S)
            flood.messages += 1
            flood.good += payload is _GOOD
            if over.wait(FLOOD_PAUSE_S):
                return


@asynccontextmanager
async def hoarding(port: int, key: str, device: int) -> AsyncIterator["Counter[int]"]:
    """Request more concurrent analyses than a caller may, and open streams without reading them; count by status."""
    answers: Counter[int] = Counter()
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, limits=limits, timeout=HANG_S, trust_env=False
        ) as api,
        asyncio.TaskGroup() as tasks,
    ):
        hoarders = [tasks.create_task(_analyse(api, device, answers), name=f"hoarder {n}") for n in range(HOARDERS)]
        hoarders += [
            tasks.create_task(_stand_still(api, device, answers), name=f"stalled stream {n}")
            for n in range(STANDING_STILL)
        ]
        yield answers
        for hoarder in hoarders:
            hoarder.cancel()


async def _analyse(api: httpx.AsyncClient, device: int, answers: "Counter[int]") -> None:
    while True:
        answer = await api.get(f"/stats/analysis/{device}")
        answers[answer.status_code] += 1
        await asyncio.sleep(0.05)


async def _stand_still(api: httpx.AsyncClient, device: int, answers: "Counter[int]") -> None:
    """Open a stream, read its beginning, and keep it open."""
    while True:
        async with api.stream("GET", f"/stats/{device}", headers={"accept": "text/csv"}) as stream:
            answers[stream.status_code] += 1
            if stream.is_success:
                async for _ in stream.aiter_bytes(1):
                    break
            await asyncio.sleep(STAND_STILL_S)


@asynccontextmanager
async def fighting(broker: Broker, client_id: str) -> AsyncIterator["Counter[str]"]:
    """Take over the session of the client id repeatedly, acknowledge nothing, and disconnect. Counts by outcome.

    The session is kept at each disconnection: ending it would discard the broker's messages.
    """
    taken: Counter[str] = Counter()
    fighter = asyncio.create_task(_fight(broker, client_id, taken), name="fighter")
    try:
        yield taken
    finally:
        fighter.cancel()
        await asyncio.wait({fighter})


async def _fight(broker: Broker, client_id: str, taken: "Counter[str]") -> None:
    await asyncio.sleep(FIRST_FIGHT_S)
    while True:
        await asyncio.to_thread(_take_over, broker, client_id, taken)
        await asyncio.sleep(FIGHT_PAUSE_S)


def _take_over(broker: Broker, client_id: str, taken: "Counter[str]") -> None:
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True)
    client.on_connect = lambda *given: taken.update([str(given[3])])
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = _SESSION_EXPIRY_S
    properties.ReceiveMaximum = 1
    client.connect(broker.host, broker.port, clean_start=False, properties=properties)
    client.loop_start()
    threading.Event().wait(FIGHT_HOLD_S)
    client.disconnect()
    client.loop_stop()


@asynccontextmanager
async def stepping(clock: SteppingClock) -> AsyncIterator["Counter[int]"]:
    """Step the clock back and forth. Counts the steps by offset."""
    steps: Counter[int] = Counter()
    stepper = asyncio.create_task(_step(clock, steps), name="stepper")
    try:
        yield steps
    finally:
        stepper.cancel()
        await asyncio.wait({stepper})
        clock.set(0)


async def _step(clock: SteppingClock, steps: "Counter[int]") -> None:
    for offset_s in cycle(STEPS):
        await asyncio.sleep(STEP_PAUSE_S)
        clock.set(offset_s)
        steps[offset_s] += 1
