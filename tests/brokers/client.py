"""An MQTT 5 client that shares no code with the product, and records what the broker does."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import cast
from urllib.parse import unquote, urlsplit

from tests.brokers import packets
from tests.brokers.packets import Answer, Delivery
from tests.waiting import HANG_S, eventually

PING_EVERY_S = 20.0
LAST_PACKET_ID = 65_535
OWN_PACKET_ID = 65_500
"""First packet id of SUBSCRIBE and UNSUBSCRIBE, far from the first packet ids of a broker."""
UNACKNOWLEDGED = 400
STANDS_STILL_S = 60.0


class BrokerStandsStill(Exception):
    """Time without a PUBACK after which the broker counts as stalled, on any machine."""


class RawClient(asyncio.Protocol):
    """A connection to a broker.

    `deliveries`: each received PUBLISH, in order. `holding`: acknowledge nothing while it is set. `acknowledged`:
    number of PUBACKs for each topic and payload of this client. `numbers`: numbers of the acknowledged messages that
    have one.
    """

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.acknowledged: Counter[tuple[str, bytes]] = Counter()
        self.numbers: set[int] = set()
        self.holding = False
        self.answer: Answer | None = None
        self.gone = asyncio.Event()
        self.answers: dict[int, tuple[int, bytes]] = {}  # SUBACK and UNSUBACK, by packet id
        self._unread = bytearray()
        self._pending: dict[int, tuple[str, bytes, int | None]] = {}
        self._next = 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        for first, body in packets.split(self._unread):
            self._take(first, body)

    def _take(self, first: int, body: bytes) -> None:
        match first >> 4:
            case packets.PUBLISH:
                self._delivered(packets.read_publish(first, body))
            case packets.PUBACK:
                self._acknowledged(*self._pending.pop(int.from_bytes(body[:2])))
            case packets.CONNACK:
                self.answer = packets.read_connack(body)
            case packets.SUBACK | packets.UNSUBACK:
                self.answers[int.from_bytes(body[:2])] = first >> 4, body[2:]
            case packets.DISCONNECT:
                self._transport.close()

    def _acknowledged(self, topic: str, payload: bytes, number: int | None) -> None:
        self.acknowledged[topic, payload] += 1
        if number is not None:
            self.numbers.add(number)

    def _delivered(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if delivery.packet_id and not self.holding:
            self.send(packets.acknowledge(delivery.packet_id))

    @property
    def ended(self) -> bool:
        """Whether the connection has ended."""
        return self.gone.is_set()

    def send(self, data: bytes) -> None:
        """Send the bytes of a packet."""
        self._transport.write(data)

    def abort(self) -> None:
        """Close the connection without DISCONNECT."""
        self._transport.abort()

    def release(self) -> None:
        """Acknowledge the held messages in order, and later ones immediately."""
        self.holding = False
        self.send(b"".join(packets.acknowledge(each.packet_id) for each in self.deliveries if each.packet_id))

    @property
    def pending(self) -> int:
        """Number of messages that the broker has not acknowledged."""
        return len(self._pending)

    async def publish(self, topic: str, payload: bytes, number: int | None = None) -> None:
        """Publish at QoS 1; wait while too many messages are in flight."""
        assert self.answer is not None
        most = min(UNACKNOWLEDGED, self.answer.properties.get(packets.RECEIVE_MAXIMUM, UNACKNOWLEDGED))
        while len(self._pending) >= most:
            await self._pending_below(most)
        while self._next in self._pending:
            self._next = self._next % LAST_PACKET_ID + 1
        self._pending[self._next] = topic, payload, number
        self.send(packets.publish(self._next, topic, payload, number))
        self._next = self._next % LAST_PACKET_ID + 1

    async def all_acknowledged(self) -> None:
        """Wait until the broker has acknowledged all messages."""
        await self._pending_below(1)

    async def _pending_below(self, number: int) -> None:
        async def pending() -> int:
            assert not self.ended, "the broker has ended the publisher's connection"
            return len(self._pending)

        while (before := len(self._pending)) >= number:
            try:
                await eventually(pending, lambda seen: seen < before, STANDS_STILL_S)
            except AssertionError as exc:
                raise BrokerStandsStill(f"stalls, {self.acknowledged.total():,} acknowledged") from exc

    async def subscribe(self, topic: str, packet_id: int = OWN_PACKET_ID) -> int:
        """Subscribe at QoS 1; return the reason code of the SUBACK."""
        return await self._ask(packets.subscribe(packet_id, topic), packet_id)

    async def unsubscribe(self, topic: str, packet_id: int = OWN_PACKET_ID + 1) -> int:
        """Unsubscribe; return the reason code."""
        return await self._ask(packets.unsubscribe(packet_id, topic), packet_id)

    async def _ask(self, packet: bytes, packet_id: int) -> int:
        self.answers.pop(packet_id, None)
        self.send(packet)

        async def answer() -> tuple[int, bytes] | None:
            assert not self.ended, "the broker has ended the connection"
            return self.answers.get(packet_id)

        _, body = await eventually(answer, bool) or (0, b"")
        return body[-1]

    async def ping(self) -> None:
        """Keep the connection alive."""
        while not self.ended:
            await asyncio.sleep(PING_EVERY_S)
            if not self.ended:
                self.send(packets.PINGREQ)


@asynccontextmanager
async def connected(
    url: str, client_id: str, *, clean: bool = False, receive_maximum: int = 10_000, holding: bool = False
) -> AsyncIterator[RawClient]:
    """Connect a client for the block; then close its connection without DISCONNECT."""
    parts = urlsplit(url)
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(RawClient, parts.hostname, parts.port or 1883)
    client.holding = holding
    client.send(packets.connect(client_id, clean=clean, receive_maximum=receive_maximum, login=login))
    pinging = asyncio.create_task(client.ping(), name="ping")
    try:
        answer = await eventually(partial(_answer, client), bool)
        assert answer is not None
        assert answer.reason == 0, f"the broker refuses: {answer.reason:#x}"
        yield client
    finally:
        pinging.cancel()
        client.abort()
        await client.gone.wait()


async def _answer(client: RawClient) -> Answer | None:
    assert not client.ended, "the broker has ended the connection"
    return client.answer


async def quiet(client: RawClient, seconds: float) -> None:
    """Wait until no message has arrived for this time."""
    loop = asyncio.get_running_loop()
    seen, since = len(client.deliveries), loop.time()
    ends = since + HANG_S
    while loop.time() < min(since + seconds, ends):
        await asyncio.sleep(0.05)
        if len(client.deliveries) != seen:
            seen, since = len(client.deliveries), loop.time()
