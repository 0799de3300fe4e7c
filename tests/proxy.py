"""A proxy between the ingestor and a server, which drops data and connections for tests."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

from tests.waiting import eventually

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CHUNK_BYTES = 65_536
NETWORK_BYTES = 32_768
"""Small buffers, like a network's; the kernel's default is megabytes."""
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 seconds: the peer gets a RST


class Link:
    """One connection through the proxy, with its client side and its server side."""

    def __init__(self, client: Streams, server: Streams) -> None:
        self.from_client, self.to_client = client
        self.from_server, self.to_server = server
        self.muted = False
        self.dead = False
        for writer in (self.to_client, self.to_server):
            writer.transport.set_write_buffer_limits(0)  # drain() then returns when everything is sent
            for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, NETWORK_BYTES)

    def close(self) -> None:
        """Close both sides."""
        for writer in (self.to_client, self.to_server):
            writer.close()

    def reset(self) -> None:
        """Reset both sides."""
        for writer in (self.to_client, self.to_server):
            if not writer.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Forwards bytes between its clients and a server.

    `cut_after`, `cut_before`: when a client sends these bytes, its connection is reset once, and `was_cut` is set:
    after they are forwarded and before the server can answer, or before they are forwarded.
    """

    def __init__(self, open_server: Callable[[], Awaitable[Streams]]) -> None:
        self._open_server = open_server
        self._listener: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._silent = False
        self.port = 0
        self.connections = 0  # number of connections so far
        self.cut_after: bytes | None = None
        self.cut_before: bytes | None = None
        self.was_cut = asyncio.Event()

    async def listen(self) -> None:
        """Accept connections, on a free port at first, and on the same port after `refuse`."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Reset all connections, and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
        self.cut()

    def mute(self) -> None:
        """Discard data of the current clients from now on, but not of later ones."""
        for link in self._links:
            link.muted = True

    def cut(self) -> None:
        """Reset all connections."""
        for link in self._links:
            link.reset()

    async def cut_and_await_the_next(self) -> None:
        """Reset all connections, and wait for a new one."""
        before = self.connections
        self.cut()
        await eventually(self._count, lambda connections: connections > before)

    async def _count(self) -> int:
        return self.connections

    def silence(self) -> None:
        """Forward nothing from now on, without closing connections. The current connections stay silent."""
        self._silent = True
        for link in self._links:
            link.dead = True

    def speak(self) -> None:
        """End the silence for new connections."""
        self._silent = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            server = await self._open_server()
        except OSError:  # the server is down
            writer.transport.abort()
            return
        link = Link((reader, writer), server)
        link.dead = self._silent
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._upstream(link), name="upstream")
                group.create_task(self._downstream(link), name="downstream")
        except* OSError:  # the proxy breaks connections on purpose
            link.reset()
        finally:
            self._links.discard(link)
            link.close()

    async def _upstream(self, link: Link) -> None:
        while data := await link.from_client.read(CHUNK_BYTES):
            if not (link.muted or link.dead):
                await self.client_sends(link, data)
        if not link.dead:
            link.to_server.close()

    async def _downstream(self, link: Link) -> None:
        while data := await link.from_server.read(CHUNK_BYTES):
            if not link.dead:
                await self.server_sends(link, data)
        if not link.dead:
            link.to_client.close()

    async def client_sends(self, link: Link, data: bytes) -> None:
        """Forward a client's data."""
        if self.cut_before is not None and self.cut_before in data:
            self.cut_before = None
            link.reset()
            self.was_cut.set()
            return
        await _forward(data, link.to_server)
        if self.cut_after is not None and self.cut_after in data:
            self.cut_after = None
            link.reset()
            self.was_cut.set()

    async def server_sends(self, link: Link, data: bytes) -> None:
        """Forward the server's data."""
        await _forward(data, link.to_client)


async def _forward(data: bytes, writer: asyncio.StreamWriter) -> None:
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(data)
    await writer.drain()


_Proxy = TypeVar("_Proxy", bound=Proxy)


@asynccontextmanager
async def running(proxy: _Proxy) -> AsyncIterator[_Proxy]:
    """Run the proxy on a free port of 127.0.0.1."""
    await proxy.listen()
    try:
        yield proxy
    finally:
        proxy.refuse()
        await asyncio.sleep(0)


@asynccontextmanager
async def running_proxy(open_server: Callable[[], Awaitable[Streams]]) -> AsyncIterator[Proxy]:
    """Run a proxy on a free port of 127.0.0.1."""
    async with running(Proxy(open_server)) as proxy:
        yield proxy


async def open_postgres(url: str) -> Streams:
    """Connect to the server on its Unix socket or its port."""
    given = conninfo_to_dict(url)
    host, port = str(given.get("host", "127.0.0.1")), int(given.get("port") or 5432)
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


def through(proxy: Proxy, url: str) -> str:
    """Return the URL of the database through a proxy, without TLS, so that the proxy can read it."""
    given = conninfo_to_dict(url)
    who = f"{quote(str(given['user']))}:{quote(str(given.get('password', '')))}"
    return f"postgresql://{who}@127.0.0.1:{proxy.port}/{given['dbname']}?sslmode=disable&gssencmode=disable"
