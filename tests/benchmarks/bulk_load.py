"""Sends full arrays of readings over many connections: `python -m tests.benchmarks.bulk_load PORT SECONDS DEVICE`.

Each connection has one request in flight. One that is refused waits for the time that the response states. It prints
what was stored, as JSON.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import uvloop

CONNECTIONS = 64
READINGS = 10_000
_READ_BYTES = 1 << 20
_HEAD = b"POST /stats HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_BEGINS = datetime(2025, 6, 1, tzinfo=UTC)


class Loaded(msgspec.Struct):
    """The result: readings a second, requests, those that were refused, and the least Retry-After of these."""

    readings_s: float
    requests: int
    refused: int
    least_retry_after: int


class _Tally:
    def __init__(self) -> None:
        self.stored = self.requests = self.refused = 0
        self.least_retry_after = 3600


def _body(device: int, number: int) -> bytes:
    """Return readings of a device in time order. `number` makes them differ from those of other bodies."""
    reading = b'{"device_id":%d,"x":%.3f,"y":-12.5,"z":%.3f,"timestamp":"%s"}'
    at = _BEGINS + timedelta(hours=number)
    rows = (
        reading % (device, n % 1000, n / 11, (at + timedelta(milliseconds=300 * n)).isoformat().encode())
        for n in range(READINGS)
    )
    return b"[" + b",".join(rows) + b"]"


def lines(device: int, count: int) -> bytes:
    """Return readings as lines of CSV."""
    at = _BEGINS.isoformat()
    moments = ((_BEGINS + timedelta(milliseconds=300 * n)).isoformat() for n in range(count))
    return "".join(
        f"{device},{moment},{at},{n % 1000}.000,-12.5,{n % 11}.5\n" for n, moment in enumerate(moments)
    ).encode()


async def _send(port: int, device: int, tally: _Tally, numbers: Any, ends: float) -> None:
    reader, writer = await _connect(port)
    body = _template(device)
    while time.monotonic() < ends:
        number = next(numbers)
        sent = body(number)
        writer.write(_HEAD % len(sent) + sent)
        status, headers = await _answer(reader)
        tally.requests += 1
        if status == 201:
            tally.stored += READINGS
        else:
            assert status in (429, 503), status
            tally.refused += 1
            wait = int(headers[b"retry-after"])
            tally.least_retry_after = min(tally.least_retry_after, wait)
            writer.close()  # the service closes idle connections
            await asyncio.sleep(wait)
            reader, writer = await _connect(port)
    writer.close()


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, limit=4 * _READ_BYTES)


def _template(device: int) -> Any:
    """Return a function of a number that returns a body. Only its dates differ, so it takes little time."""
    first = _body(device, 0)
    date = _BEGINS.date().isoformat().encode()

    def body(number: int) -> bytes:
        return first.replace(date, (_BEGINS + timedelta(days=number)).date().isoformat().encode())

    return body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *rest = head.rstrip().split(b"\r\n")
    headers = {name.lower(): value for name, value in (line.split(b": ", 1) for line in rest)}
    left = int(headers[b"content-length"])
    while left:
        left -= len(await reader.read(min(left, _READ_BYTES)))
    return int(first.split()[1]), headers


async def load(port: int, seconds: float, device: int) -> Loaded:
    """Send until the time is over, and wait for the last responses."""
    tally, began = _Tally(), time.monotonic()
    numbers = iter(range(100_000))
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(_send(port, device, tally, numbers, began + seconds))
    rate = tally.stored / (time.monotonic() - began)
    return Loaded(rate, tally.requests, tally.refused, tally.least_retry_after)


if __name__ == "__main__":
    port, seconds, device = sys.argv[1:]
    print(msgspec.json.encode(uvloop.run(load(int(port), float(seconds), int(device)))).decode())  # noqa: T201
