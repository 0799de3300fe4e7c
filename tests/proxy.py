"""A proxy of the test's own between the ingestor and a server, which loses what the test wants lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Forwards bytes between its clients and a server.

    `cut_after`: once a client sends these bytes they are forwarded, and the connection is cut before the server
    can answer; that is done once, and `was_cut` is then set.
    """

    def __init__(self, open_server: Callable[[], Awaitable[Streams]]) -> None:
        self._open_server = open_server
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self._muted: set[asyncio.StreamWriter] = set()
        self.cut_after: bytes | None = None
        self.was_cut = asyncio.Event()

    def mute(self) -> None:
        """Throws away what the clients of now send from here on; those that come later are heard."""
        self._muted |= self._writers

    def cut(self) -> None:
        """Resets all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await self._open_server()
        self._writers |= {writer, server_writer}
        with suppress(OSError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._upstream(reader, writer, server_writer), name="upstream")
                group.create_task(self._downstream(server_reader, writer), name="downstream")
        self._writers -= {writer, server_writer}

    async def _upstream(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            if client in self._muted:
                continue
            server.write(data)
            if self.cut_after is not None and self.cut_after in data:
                self.cut_after = None
                client.transport.abort()
                await server.drain()
                self.was_cut.set()
        server.close()

    async def _downstream(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            client.write(data)
        client.close()


@asynccontextmanager
async def running_proxy(open_server: Callable[[], Awaitable[Streams]]) -> AsyncIterator[Proxy]:
    """A proxy on a free port of 127.0.0.1."""
    proxy = Proxy(open_server)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ExceptionGroup):  # connections end badly here: that is the purpose
            await proxy.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.sleep(0)
