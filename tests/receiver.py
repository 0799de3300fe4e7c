"""An HTTP server for webhooks, with responses of the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec


class Call(msgspec.Struct, frozen=True):
    """A received request."""

    target: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def status(number: int, headers: str = "", content: bytes = b"ok") -> Answer:
    """Return a response with the status."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {number} X\r\ncontent-length: {len(content)}\r\n{headers}\r\n"
        writer.write(head.encode() + content)
        await writer.drain()

    return answer


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Do not respond until the caller disconnects."""
    await reader.read()


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond byte by byte without end, until the caller disconnects."""
    while True:
        writer.write(b"H")
        await writer.drain()
        await asyncio.sleep(0.01)


class Receiver:
    """Received calls, and the next responses; the last one is repeated."""

    def __init__(self, *answers: Answer) -> None:
        self.port = 0
        self.calls: list[Call] = []
        self._answers = list(answers) or [status(200)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.calls.append(Call(first, headers, body))
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(*answers: Answer) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port."""
    receiver = Receiver(*answers)
    server = await asyncio.start_server(receiver.take, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await server.wait_closed()
