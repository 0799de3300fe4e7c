"""A proxy between the broker and the ingestors, which records the ingestors' acknowledgements.

If an acknowledged message is not stored, Devicestat has lost it. An unacknowledged message must be delivered by the
broker.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.brokers import packets
from tests.proxy import Link, Proxy, running


class _Ids:
    """The packets of one connection."""

    def __init__(self) -> None:
        self.from_client = bytearray()
        self.from_server = bytearray()
        self.numbers: dict[int, int] = {}  # number of the last message with a packet id


class Tap(Proxy):
    """A proxy for MQTT.

    `delivered`, `acknowledged`: numbers of the messages that reached an ingestor, and of those whose PUBACK was sent to
    the broker.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(lambda: asyncio.open_connection(host, port))
        self.delivered: set[int] = set()
        self.acknowledged: set[int] = set()
        self._ids: defaultdict[Link, _Ids] = defaultdict(_Ids)

    async def server_sends(self, link: Link, data: bytes) -> None:
        ids = self._ids[link]
        ids.from_server += data
        for first, body in packets.split(ids.from_server):
            if first >> 4 == packets.PUBLISH:
                message = packets.read_publish(first, body)
                if message.packet_id and message.number is not None:
                    ids.numbers[message.packet_id] = message.number
                    self.delivered.add(message.number)
        await super().server_sends(link, data)

    async def client_sends(self, link: Link, data: bytes) -> None:
        ids = self._ids[link]
        ids.from_client += data
        for first, body in packets.split(ids.from_client):
            if first >> 4 == packets.PUBACK:
                number = ids.numbers.get(int.from_bytes(body[:2]))
                if number is not None:
                    self.acknowledged.add(number)
        await super().client_sends(link, data)


@asynccontextmanager
async def tapped(host: str, port: int) -> AsyncIterator[Tap]:
    """Run a tap in front of the broker."""
    async with running(Tap(host, port)) as tap:
        yield tap
