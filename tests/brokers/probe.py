"""Probes of a broker's behavior towards a client: packet ids, windows, redelivery.

Each probe has its own session and topic, and describes its observations for the table in docs/brokers.md.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

from tests.brokers.client import RawClient, connected, quiet
from tests.brokers.packets import (
    MAXIMUM_PACKET_SIZE,
    RECEIVE_MAXIMUM,
    SESSION_EXPIRY,
    SHARED_SUBSCRIPTIONS,
    Delivery,
)

IDS = 300
TOGETHER = 5
WINDOW = 1_000
"""Receive Maximum of the window probe."""
OVER = 500
HELD = 100
QUIET_S = 2.0
LIVE_S = 25.0
"""Time that a connection stays open without an acknowledgement."""
ANSWERS_WITHIN_S = 5.0

Words = dict[str, str]


def _name() -> str:
    return f"devicestat-probe-{uuid.uuid4().hex[:8]}"


@asynccontextmanager
async def publisher(url: str) -> AsyncIterator[RawClient]:
    """Connect a publisher."""
    async with connected(url, _name(), clean=True) as client:
        yield client


async def publish(client: RawClient, topic: str, numbers: range) -> None:
    """Publish the numbers; wait for the acknowledgements."""
    for number in numbers:
        await client.publish(topic, b"%d" % number)
    await client.all_acknowledged()


async def packet_ids(url: str) -> Words:
    """Observe the packet ids of messages that are acknowledged immediately."""
    topic = _name()
    async with connected(url, _name()) as client, publisher(url) as source:
        await client.subscribe(topic)
        for first in range(0, IDS, TOGETHER):
            await publish(source, topic, range(first, first + TOGETHER))
            await quiet(client, 0.05)
        await quiet(client, QUIET_S)
        return {"packet ids": allocation([each.packet_id for each in client.deliveries])}


def allocation(ids: Sequence[int]) -> str:
    """Describe the order of the packet ids."""
    if all(later == earlier + 1 for earlier, later in pairwise(ids)):
        return "in sequence"
    if len(set(ids)) == len(ids):
        return "each used once, not in sequence"
    return f"reused after their acknowledgement: {len(set(ids))} ids for {len(ids)} messages"


async def window(url: str) -> Words:
    """Observe the number of messages in flight to a client that allows 1,000."""
    topic, session = _name(), _name()
    async with connected(url, session, receive_maximum=WINDOW, holding=True) as client, publisher(url) as source:
        await client.subscribe(topic)
        await publish(source, topic, range(WINDOW + OVER))
        await quiet(client, QUIET_S)
        live = len(client.deliveries)
    async with connected(url, session, receive_maximum=WINDOW, holding=True) as client:
        await quiet(client, QUIET_S)
        backlog = len(client.deliveries)
        assert client.answer is not None
        limits = {
            name: client.answer.properties.get(kind)
            for name, kind in (
                ("receive maximum", RECEIVE_MAXIMUM),
                ("maximum packet size", MAXIMUM_PACKET_SIZE),
                ("session expiry", SESSION_EXPIRY),
                ("shared subscriptions", SHARED_SUBSCRIPTIONS),
            )
        }
    return {
        "messages in flight, of 1,000 allowed": f"{live:,}" + (f", with a backlog {backlog:,}" * (live != backlog)),
        "CONNACK limits": ", ".join(f"{name} {value:,}" for name, value in limits.items() if value is not None)
        or "none",
    }


async def redelivery(url: str) -> Words:
    """Observe redelivery, on a live connection and on the next one."""
    topic, session = _name(), _name()
    async with publisher(url) as source:
        async with connected(url, session, receive_maximum=WINDOW, holding=True) as client:
            await client.subscribe(topic)
            await publish(source, topic, range(HELD))
            await quiet(client, QUIET_S)
            first = list(client.deliveries)
            await asyncio.sleep(LIVE_S)  # time for redelivery on the live connection
            again = client.deliveries[len(first) :]
        await publish(source, topic, range(HELD, 2 * HELD))
        async with connected(url, session, receive_maximum=WINDOW) as client:
            assert client.answer is not None
            present = client.answer.session_present
            await quiet(client, QUIET_S)
            second = list(client.deliveries)
    words = {"keeps the session": "yes" if present else "no", "retransmits on a live connection": _times(again)}
    delivered = {int(each.payload) for each in first + second}
    words["never delivered"] = str(2 * HELD - len(delivered))
    return words | compare(first, second)


def _times(again: Sequence[Delivery]) -> str:
    return f"yes: {len(again)} within {LIVE_S:g} s" if again else f"not within {LIVE_S:g} s"


def compare(first: Sequence[Delivery], second: Sequence[Delivery]) -> Words:
    """Describe a redelivery by the first and the second deliveries."""
    ids = {each.payload: each.packet_id for each in first}
    again = [each for each in second if each.payload in ids]
    fresh = [each for each in second if each.payload not in ids]
    same = sum(each.packet_id == ids[each.payload] for each in again)
    return {
        "redelivers": f"{len(again)} of {len(ids)}",
        "ids of a redelivery": f"{same} of {len(again)} the same",
        "order": order([int(each.payload) for each in again]),
        "DUP": f"{_dup(again)} of {len(again)}, on first deliveries {_dup(fresh)} of {len(fresh)}",
        "order of first deliveries": order([int(each.payload) for each in fresh]),
    }


def _dup(deliveries: Sequence[Delivery]) -> int:
    return sum(each.dup for each in deliveries)


def order(numbers: Sequence[int]) -> str:
    """Describe the order of numbers that were published in sequence."""
    if list(numbers) == sorted(numbers):
        return "kept"
    return (
        "reversed" if list(numbers) == sorted(numbers, reverse=True) else "other: " + ", ".join(map(str, numbers[:8]))
    )


async def subscribing(url: str) -> Words:
    """Observe a SUBSCRIBE with the packet id of a message in flight, and an UNSUBSCRIBE of the other form."""
    topic, session = _name(), _name()
    async with connected(url, session, holding=True) as client, publisher(url) as source:
        await client.subscribe(topic)
        await publish(source, topic, range(1))
        await quiet(client, QUIET_S)
        words = {
            "SUBSCRIBE with an id in flight": await _asked(client.subscribe(topic, client.deliveries[0].packet_id))
        }
        client.release()
        before = len(client.deliveries)
        answer = await _asked(client.unsubscribe(f"$share/devicestat/{topic}"))
        await publish(source, topic, range(1, 2))
        await quiet(client, QUIET_S)
        still = "still delivers" if len(client.deliveries) > before else "**delivers nothing**"
        words["UNSUBSCRIBE of the shared form"] = f"{answer}; the plain one {still}"
    return words


async def _asked(question: Awaitable[int]) -> str:
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            return f"{await question:#04x}"
    except TimeoutError:
        return "no answer"
    except AssertionError as exc:
        return str(exc)
