"""A proxy that knows where an MQTT packet begins: it counts what goes through, and breaks off inside of one."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from tests.conftest import Broker
from tests.proxy import Link, Proxy

PUBLISH, PUBACK, PINGREQ = 3, 4, 12
"""Packet types (MQTT 5.0, section 2.1.2)."""


class Packets:
    """Takes bytes as they come, and gives whole packets."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The packets that these bytes complete."""
        self._rest += data
        start = 0
        while (size := _size(self._rest, start)) is not None and start + size <= len(self._rest):
            yield bytes(self._rest[start : start + size])
            start += size
        del self._rest[:start]


def _size(data: bytearray, start: int) -> int | None:
    """Of the packet that begins there; None if that cannot be told yet. (MQTT 5.0, section 1.5.5)"""
    size = 0
    for length, byte in enumerate(data[start + 1 : start + 5], 1):
        size |= (byte & 0x7F) << 7 * (length - 1)
        if byte < 0x80:
            return 1 + length + size
    return None


class MqttProxy(Proxy):
    """In front of a broker.

    `break_off`: of the next PUBLISH to a client so many bytes are forwarded, but never all, and the connection is
    reset; `was_cut` is then set. `sent` counts the packets of the clients by type.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__(lambda: asyncio.open_connection(broker.host, broker.port))
        self.break_off: int | None = None
        self.sent: Counter[int] = Counter()
        self._upward: defaultdict[Link, Packets] = defaultdict(Packets)
        self._downward: defaultdict[Link, Packets] = defaultdict(Packets)

    async def pings(self) -> int:
        """How often the clients have pinged."""
        return self.sent[PINGREQ]

    @asynccontextmanager
    async def nothing_acknowledged(self) -> AsyncIterator[None]:
        """Holds that in this block the clients acknowledge nothing."""
        before = self.sent[PUBACK]
        yield
        assert self.sent[PUBACK] == before

    async def client_sends(self, link: Link, data: bytes) -> None:
        self.sent.update(_type(packet) for packet in self._upward[link].feed(data))
        await super().client_sends(link, data)

    async def server_sends(self, link: Link, data: bytes) -> None:
        packets = list(self._downward[link].feed(data))
        at = next((at for at, packet in enumerate(packets) if _type(packet) == PUBLISH), None)
        if self.break_off is None or at is None:
            await super().server_sends(link, b"".join(packets))
            return
        part = packets[at][: min(self.break_off, len(packets[at]) - 1)]
        self.break_off = None
        await super().server_sends(link, b"".join(packets[:at]) + part)
        link.reset()
        self.was_cut.set()


def _type(packet: bytes) -> int:
    return packet[0] >> 4
