"""Sends requests as fast as a service responds: `python -m tests.benchmarks.http_load PORT NAME SECONDS`.

Each of its connections has one request in flight. It checks the status of every response, and the content of some, and
prints the responses a second. It uses sockets without an HTTP client, to leave the processor to service and database.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
import uvloop

from tests.benchmarks.http_data import DEVICES, READINGS

CONNECTIONS = 16
CHECK_EVERY = 100
"""Responses for each one whose content is checked."""
SETTLED_WITHIN_S = 30


class Load(msgspec.Struct, frozen=True):
    """Requests, sent in a cycle; the expected status, and a check of the content."""

    requests: list[bytes]
    status: bytes
    is_right: Callable[[Any], bool]


def _request(line: str, body: bytes = b"") -> bytes:
    typed = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{typed}\r\n".encode() + body


def _reading(device: int) -> bytes:
    return b'{"device_id":%d,"x":%d.25,"y":-2.5,"z":300.125}' % (device, device)


def _analysis(suffix: str) -> Load:
    return Load(
        [_request(f"GET /stats/analysis/{device}{suffix}") for device in DEVICES],
        b"200",
        lambda answer: all(answer[axis]["count"] == READINGS and 0 < answer[axis]["median"] < 1 for axis in "xyz"),
    )


LOADS = {
    "store": Load(
        [_request("POST /stats", _reading(device)) for device in DEVICES],
        b"201",
        lambda answer: answer["x"] == answer["device_id"] + 0.25 and answer["id"] > 0,
    ),
    "analyse": _analysis(""),
    "analyse-sql": _analysis("/sql"),
}


class _Asking(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load, requests: Iterator[bytes], ended: "asyncio.Future[None]") -> None:
        self.answers = 0
        self._load = load
        self._requests = requests
        self._ended = ended
        self._stopping = False
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is not asyncio's class
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank or len(body) < _content_length(head):
            return
        self._received = b""
        self.answers += 1
        assert head[9:12] == self._load.status, head + b"\n" + body
        if self.answers % CHECK_EVERY == 0:
            assert self._load.is_right(msgspec.json.decode(body)), body
        if self._stopping:
            self._transport.close()
        else:
            self._transport.write(next(self._requests))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stopping and exc is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(exc or ConnectionError("the service has closed the connection"))

    def stop(self) -> None:
        """Stop after the response in flight."""
        self._stopping = True


def _content_length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"\r\ncontent-length: ")
    return int(after.partition(b"\r\n")[0])


async def ask(port: int, load: Load, seconds: float) -> float:
    """Return responses a second."""
    loop = asyncio.get_running_loop()
    requests = itertools.cycle(load.requests)
    endings = [loop.create_future() for _ in range(CONNECTIONS)]
    began = time.monotonic()
    opened = [
        await loop.create_connection(lambda ended=ended: _Asking(load, requests, ended), "127.0.0.1", port)
        for ended in endings
    ]
    await asyncio.wait(endings, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for _, asking in opened:
        asking.stop()
    async with asyncio.timeout(SETTLED_WITHIN_S):
        await asyncio.gather(*endings)
    return sum(asking.answers for _, asking in opened) / (time.monotonic() - began)


if __name__ == "__main__":
    port, name, seconds = sys.argv[1:]
    print(uvloop.run(ask(int(port), LOADS[name], float(seconds))))  # noqa: T201
