"""A proxy that parses MQTT packets: it counts them, and can reset a connection within one."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from tests.conftest import Broker
from tests.proxy import Link, Proxy

CONNECT, PUBLISH, PUBACK, PINGREQ = 1, 3, 4, 12
"""Packet types (MQTT 5.0, section 2.1.2)."""


FIGURES = b"devicestat-figures-"
"""Beginning of the client ids of the connections that read the broker's figures."""


class Packets:
    """Splits a stream of bytes into packets."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes; return the packets that they complete."""
        self._rest += data
        start = 0
        while (size := _size(self._rest, start)) is not None and start + size <= len(self._rest):
            yield bytes(self._rest[start : start + size])
            start += size
        del self._rest[:start]


def _size(data: bytearray, start: int) -> int | None:
    """Return the length of the packet at the offset; None if its header is incomplete (MQTT 5.0, section 1.5.5)."""
    size = 0
    for length, byte in enumerate(data[start + 1 : start + 5], 1):
        size |= (byte & 0x7F) << 7 * (length - 1)
        if byte < 0x80:
            return 1 + length + size
    return None


class MqttProxy(Proxy):
    """A proxy in front of a broker.

    `break_off`: number of bytes of the next PUBLISH to a client that are forwarded, fewer than all, before the
    connection is reset and `was_cut` is set. `sent`: number of the clients' packets by type. Connections that read the
    broker's figures are only forwarded.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__(lambda: asyncio.open_connection(broker.host, broker.port))
        self.break_off: int | None = None
        self.sent: Counter[int] = Counter()
        self._reads_figures: set[Link] = set()
        self._upward: defaultdict[Link, Packets] = defaultdict(Packets)
        self._downward: defaultdict[Link, Packets] = defaultdict(Packets)

    async def pings(self) -> int:
        """Number of PINGREQ packets of the clients."""
        return self.sent[PINGREQ]

    @asynccontextmanager
    async def nothing_acknowledged(self) -> AsyncIterator[None]:
        """Assert that the clients acknowledge nothing during the block."""
        before = self.sent[PUBACK]
        yield
        assert self.sent[PUBACK] == before

    async def client_sends(self, link: Link, data: bytes) -> None:
        packets = list(self._upward[link].feed(data))
        if any(_type(packet) == CONNECT and FIGURES in packet for packet in packets):
            self._reads_figures.add(link)
        if link not in self._reads_figures:
            self.sent.update(map(_type, packets))
        await super().client_sends(link, data)

    async def server_sends(self, link: Link, data: bytes) -> None:
        packets = list(self._downward[link].feed(data))
        at = next((at for at, packet in enumerate(packets) if _type(packet) == PUBLISH), None)
        if self.break_off is None or at is None or link in self._reads_figures:
            await super().server_sends(link, b"".join(packets))
            return
        part = packets[at][: min(self.break_off, len(packets[at]) - 1)]
        self.break_off = None
        await super().server_sends(link, b"".join(packets[:at]) + part)
        link.reset()
        self.was_cut.set()


def _type(packet: bytes) -> int:
    return packet[0] >> 4
