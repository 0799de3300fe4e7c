"""A proxy of the test's own between the ingestor and a server, which loses what the test wants lost."""

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
"""A network holds little of what is on its way; the kernel would give a proxy megabytes."""
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 seconds: the other side gets a RST


class Link:
    """One connection through the proxy: the client's side of it, and the server's."""

    def __init__(self, client: Streams, server: Streams) -> None:
        self.from_client, self.to_client = client
        self.from_server, self.to_server = server
        self.muted = False
        self.dead = False
        for writer in (self.to_client, self.to_server):
            writer.transport.set_write_buffer_limits(0)  # drain() then returns once all has gone
            for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, NETWORK_BYTES)

    def close(self) -> None:
        """Ends both sides in good order."""
        for writer in (self.to_client, self.to_server):
            writer.close()

    def reset(self) -> None:
        """Resets both sides."""
        for writer in (self.to_client, self.to_server):
            if not writer.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Forwards bytes between its clients and a server.

    `cut_after`, `cut_before`: when a client sends these bytes its connection is reset, after they have gone to
    the server and before it can answer, or before they have gone. That is done once; `was_cut` is then set.
    """

    def __init__(self, open_server: Callable[[], Awaitable[Streams]]) -> None:
        self._open_server = open_server
        self._listener: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._silent = False
        self.port = 0
        self.connections = 0  # that came, so far
        self.cut_after: bytes | None = None
        self.cut_before: bytes | None = None
        self.was_cut = asyncio.Event()

    async def listen(self) -> None:
        """Takes connections, on a free port at first, and on the same one after `refuse`."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Resets all connections, and takes no more."""
        if self._listener is not None:
            self._listener.close()
        self.cut()

    def mute(self) -> None:
        """Throws away what the clients of now send from here on; those that come later are heard."""
        for link in self._links:
            link.muted = True

    def cut(self) -> None:
        """Resets all connections."""
        for link in self._links:
            link.reset()

    async def cut_and_await_the_next(self) -> None:
        """Resets all connections, and waits for one that comes after: it may be there before anyone looked."""
        before = self.connections
        self.cut()
        await eventually(self._count, lambda connections: connections > before)

    async def _count(self) -> int:
        return self.connections

    def silence(self) -> None:
        """From here on nothing goes through, and nobody is told: the connections of now are dead for good."""
        self._silent = True
        for link in self._links:
            link.dead = True

    def speak(self) -> None:
        """Ends the silence for the connections that come from here on."""
        self._silent = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            server = await self._open_server()
        except OSError:  # it is away
            writer.transport.abort()
            return
        link = Link((reader, writer), server)
        link.dead = self._silent
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._upstream(link), name="upstream")
                group.create_task(self._downstream(link), name="downstream")
        except* OSError:  # connections end badly here: that is the purpose
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
        """Forwards what a client sends."""
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
        """Forwards what the server sends."""
        await _forward(data, link.to_client)


async def _forward(data: bytes, writer: asyncio.StreamWriter) -> None:
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(data)
    await writer.drain()


_Proxy = TypeVar("_Proxy", bound=Proxy)


@asynccontextmanager
async def running(proxy: _Proxy) -> AsyncIterator[_Proxy]:
    """The proxy, on a free port of 127.0.0.1."""
    await proxy.listen()
    try:
        yield proxy
    finally:
        proxy.refuse()
        await asyncio.sleep(0)


@asynccontextmanager
async def running_proxy(open_server: Callable[[], Awaitable[Streams]]) -> AsyncIterator[Proxy]:
    """A proxy on a free port of 127.0.0.1."""
    async with running(Proxy(open_server)) as proxy:
        yield proxy


async def open_postgres(url: str) -> Streams:
    """A connection to the server, whether it listens on a Unix socket or on a port."""
    given = conninfo_to_dict(url)
    host, port = str(given.get("host", "127.0.0.1")), int(given.get("port") or 5432)
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


def through(proxy: Proxy, url: str) -> str:
    """The URL of the same database, by way of a proxy which is to understand what goes through."""
    given = conninfo_to_dict(url)
    who = f"{quote(str(given['user']))}:{quote(str(given.get('password', '')))}"
    return f"postgresql://{who}@127.0.0.1:{proxy.port}/{given['dbname']}?sslmode=disable&gssencmode=disable"
