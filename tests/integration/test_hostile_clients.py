"""Clients that send slowly, too much, or malformed data, or do not read, delay no other client."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from unittest.mock import ANY

import httpx
import msgspec
import psycopg
import pytest

from query_api.serve.pools import QUICK, SLOW
from query_api.serve.tuning import Tuning
from query_api.web.requests.bodies import MAX_BODY_BYTES, ROOM_EACH_BYTES
from shared.serving import limits as connections
from tests.waiting import HANG_S, eventually

SOON_S = 0.4
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = b"POST /stats HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"


class Raw(msgspec.Struct, frozen=True):
    """A raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Return the next response: status, headers, JSON."""
        async with asyncio.timeout(HANG_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split(" ")[1]), headers, json.loads(body)

    async def is_closed(self) -> bool:
        """Return whether the server closes the connection without a further response."""
        async with asyncio.timeout(HANG_S):
            try:
                return not await self.reader.read()
            except ConnectionResetError:
                return True


@asynccontextmanager
async def raw(api: httpx.AsyncClient) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


def post(body: bytes, length: int | None = None) -> bytes:
    announced = b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length)
    return b"POST /stats HTTP/1.1\r\n" + HOST + JSON + announced + body


def require_refusal(answer: tuple[int, dict[str, str], Any], status: int) -> str:
    """Return the detail of the problem, after a check of the response."""
    found, headers, problem = answer
    assert (found, problem["status"], headers["content-type"]) == (status, status, "application/problem+json")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    return str(problem["detail"])


SHORT = connections.ConnectionLimits(look_every_s=0.05, head_within_s=SOON_S, body_within_s=SOON_S, standstill_s=SOON_S)
IMPATIENT = pytest.mark.serve(Tuning(connections=SHORT))
"""The server checks often, and its time limits are short."""
SMALL = pytest.mark.serve(Tuning(connections=connections.ConnectionLimits(max_request_bytes=200_000)))
FEW = pytest.mark.serve(Tuning(connections=connections.ConnectionLimits(max_connections=3)))


# Slow.


@IMPATIENT
async def test_missing_headers_end_the_connection(api: httpx.AsyncClient) -> None:
    for sent in (b"", b"\r\n", b"GET /devic", b"GET /devices HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
        async with raw(api) as client:
            await client.send(sent)
            detail = require_refusal(await client.answer(), 408)
            assert detail == "the request's headers did not arrive within 0.4 seconds"
            assert await client.is_closed()


@IMPATIENT
async def test_a_missing_body_ends_the_connection(api: httpx.AsyncClient) -> None:
    needs_none = b"GET /problems HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n"
    for sent in (post(b'{"device_id":', length=60), CHUNKED + b"5\r\n[{", needs_none):
        async with raw(api) as client:
            await client.send(sent)
            if sent is needs_none:  # it is refused earlier
                assert (await client.answer())[0] == 422
            assert "body did not arrive" in require_refusal(await client.answer(), 408)
            assert await client.is_closed()


@IMPATIENT
async def test_a_slow_request_does_not_extend_the_timeout(api: httpx.AsyncClient) -> None:
    async with raw(api) as client:

        async def drip() -> None:
            await client.send(CHUNKED)
            while True:
                await client.send(b"1\r\n \r\n")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        try:
            require_refusal(await client.answer(), 408)
        finally:
            dripping.cancel()


@IMPATIENT
async def test_empty_lines_do_not_keep_a_connection(api: httpx.AsyncClient) -> None:
    async with raw(api) as client:
        await client.send(b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.answer())[0] == 200
        await client.send(b"\r\n")  # any data ends uvicorn's own timer
        require_refusal(await client.answer(), 408)
        assert await client.is_closed()


@IMPATIENT
async def test_repeated_quick_requests_keep_the_connection(api: httpx.AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    async with raw(api) as client:
        ends = loop.time() + 3 * SOON_S
        while loop.time() < ends:
            await client.send(b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n")
            assert (await client.answer())[0] == 200
            await asyncio.sleep(0.01)


async def test_slow_bodies_hold_no_connection_to_the_database(api: httpx.AsyncClient, device: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(3 * (QUICK + SLOW)):
            client = await stack.enter_async_context(raw(api))
            await client.send(post(b"[", length=1000))
        stored = await api.post("/stats", json={"device_id": device, "x": 1, "y": 2, "z": 3})
        assert stored.status_code == 201
        assert (await api.get(f"/stats/{device}")).status_code == 200


# Too much.


async def test_a_body_without_a_length_is_bounded_as_well(api: httpx.AsyncClient) -> None:
    block = b" " * 65_536
    chunk = b"%x\r\n%b\r\n" % (len(block), block)
    async with raw(api) as client:
        await client.send(CHUNKED)
        sending = asyncio.create_task(client.send(*[chunk] * 80))
        status, _, problem = await client.answer()
        sending.cancel()
        assert (status, problem["type"]) == (413, "/problems/too-large")


async def test_a_body_with_a_too_large_length_is_refused_before_it_arrives(api: httpx.AsyncClient) -> None:
    async with raw(api) as client:
        await client.send(post(b"", length=5_000_000))
        status, _, problem = await client.answer()
        assert (status, problem["type"]) == (413, "/problems/too-large")


async def test_long_bodies_do_not_fill_the_memory(api: httpx.AsyncClient, device: int) -> None:
    reading = {"device_id": device, "x": 1, "y": 2, "z": 3}
    async with AsyncExitStack() as stack:
        for _ in range(ROOM_EACH_BYTES // MAX_BODY_BYTES):
            client = await stack.enter_async_context(raw(api))
            await client.send(post(b"[", length=MAX_BODY_BYTES))
        refused = await eventually(
            lambda: api.post("/stats", json=[reading] * 9000), lambda answer: answer.status_code == 429
        )
        assert refused.json()["type"] == "/problems/too-many-requests"
        assert (await api.post("/stats", json=[reading] * 500)).status_code == 201
    await eventually(lambda: api.post("/stats", json=[reading] * 9000), lambda answer: answer.status_code == 201)


@SMALL
async def test_a_request_that_never_ends_is_cut_off(api: httpx.AsyncClient) -> None:
    """Also a request whose body is not read."""
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    for start in (b"GET /health/live HTTP/1.1\r\n", b"POST /nowhere HTTP/1.1\r\n"):
        async with raw(api) as client:
            await client.send(start + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
            assert (await client.answer())[0] in (422, 404)
            with pytest.raises(ConnectionError):
                await client.send(*[chunk] * 1000)


@SMALL
async def test_trailers_are_bounded(api: httpx.AsyncClient) -> None:
    async with raw(api) as client:
        await client.send(CHUNKED + b"2\r\n[]\r\n0\r\n")
        sending = asyncio.create_task(client.send(*[b"X-Trailer: " + b"x" * 60_000 + b"\r\n"] * 10))
        require_refusal(await client.answer(), 413)
        sending.cancel()


async def test_addresses_and_headers_are_bounded(api: httpx.AsyncClient) -> None:
    for start in (b"GET /devices?search=", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: "):
        async with raw(api) as client:
            await client.send(start)
            sending = asyncio.create_task(client.send(*[b"x" * 30_000] * 10))
            assert "longer than 65,536 bytes" in require_refusal(await client.answer(), 431)
            sending.cancel()


async def test_pipelined_requests_are_bounded(api: httpx.AsyncClient) -> None:
    async with raw(api) as client:
        await client.send((b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n") * 1000)
        async with asyncio.timeout(HANG_S):
            answered = (await client.reader.read()).count(b"HTTP/1.1 200 OK")
        assert 1 <= answered <= connections.MAX_PIPELINED + 1


@FEW
async def test_the_number_of_connections_is_bounded(api: httpx.AsyncClient) -> None:
    await api.get("/health/live")
    async with AsyncExitStack() as stack:
        two = [await stack.enter_async_context(raw(api)) for _ in range(2)]
        for client in two:
            await client.send(b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n")
            assert (await client.answer())[0] == 200
        async with raw(api) as fourth:
            assert "3 connections are open" in require_refusal(await fourth.answer(), 503)
            assert await fourth.is_closed()
        assert (await api.get("/health/live")).status_code == 200  # on its open connection


# Nonsense.


NOT_HTTP = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"NONSENSE / HTTP/1.1\r\n\r\n",
    b"GET http:/// HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n",
    b"POST /stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    b"POST /stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    CHUNKED + b"no number\r\n",
)  # fmt: skip


async def test_bytes_that_are_not_http_are_a_bad_request(api: httpx.AsyncClient) -> None:
    for sent in NOT_HTTP:
        async with raw(api) as client:
            await client.send(sent)
            require_refusal(await client.answer(), 400)
            assert await client.is_closed()


async def test_a_length_that_is_too_short_does_not_make_two_requests(api: httpx.AsyncClient, device: int) -> None:
    whole = b'{"device_id": %d, "x": 1, "y": 2, "z": 3}' % device
    async with raw(api) as client:
        await client.send(post(whole, length=len(whole) - 1))
        status, headers, problem = await client.answer()
        assert (status, problem["type"]) == (400, "/problems/malformed-request")
        assert headers["connection"] == "close"
        assert await client.is_closed()


# Not reading.


def deaf(api: httpx.AsyncClient, request: bytes) -> socket.socket:
    """A connection that sends a request and reads almost nothing of the response."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((api.base_url.host, api.base_url.port))
    connection.sendall(request)
    return connection


FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %(device)s, timestamptz '2025-03-01 UTC' + n * interval '2 seconds', now(), sin(n) * 900, n %% 7, cos(n)
    FROM generate_series(0, %(count)s - 1) AS n
"""


async def fill(database: psycopg.AsyncConnection[Any], device: int, count: int) -> None:
    await database.execute("SELECT ensure_readings_partition(timestamptz '2025-03-01 UTC')")
    await database.execute(FILL, {"device": device, "count": count})
    await database.execute("SELECT find_device_extents()")


@IMPATIENT
async def test_a_client_that_reads_nothing_of_a_stream_is_disconnected(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    await fill(database, device, 150_000)
    request = b"GET /stats/%d HTTP/1.1\r\n%bAccept: text/csv\r\n\r\n" % (device, HOST)
    with deaf(api, request) as connection:
        await eventually(lambda: database.execute(EXPORTING), lambda seen: seen.rowcount == 1)
        await eventually(lambda: database.execute(EXPORTING), lambda seen: seen.rowcount == 0)
        connection.settimeout(HANG_S)
        assert len(await asyncio.to_thread(read_all, connection)) < 10_000_000


EXPORTING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'devicestat api export'"
)


@IMPATIENT
async def test_a_client_that_reads_nothing_of_a_response_is_disconnected(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await fill(database, device, 10_000)
    whole = (await api.get(f"/stats/{device}?limit=10000")).content
    request = b"GET /stats/%d?limit=10000 HTTP/1.1\r\n%b\r\n" % (device, HOST)
    ended = asyncio.Event()
    lost = connections.LimitedProtocol.connection_lost

    def note(connection: connections.LimitedProtocol, error: Exception | None) -> None:
        lost(connection, error)
        ended.set()

    monkeypatch.setattr(connections.LimitedProtocol, "connection_lost", note)
    with deaf(api, request * 5) as connection:
        async with asyncio.timeout(HANG_S):
            await ended.wait()
        connection.settimeout(HANG_S)
        assert len(await asyncio.to_thread(read_all, connection)) < 5 * len(whole)


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    found = bytearray()
    try:
        while block := connection.recv(65_536):
            found += block
    except ConnectionResetError:
        pass
    return bytes(found)


@IMPATIENT
async def test_a_slow_client_reads_to_the_end(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    """The stream continues while the client reads."""
    await fill(database, device, 100_000)
    lines = 0
    async with api.stream("GET", f"/stats/{device}", headers={"accept": "text/csv"}) as stream:
        async for block in stream.aiter_bytes(1_000_000):
            lines += block.count(b"\n")
            await asyncio.sleep(SOON_S / 2)
    assert lines == 100_001


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_another_protocol_is_refused_without_log_lines(
    api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, protocol: bytes
) -> None:
    async with raw(api) as client:
        await client.send(
            b"GET /devices HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
        )
        assert await client.answer() == (200, ANY, [])
        await client.send(b"GET /devices HTTP/1.1\r\n" + HOST + b"\r\n")
        assert await client.answer() == (200, ANY, [])
    # pytest adds a handler to the access log, which has none in a service
    assert [
        record for record in caplog.records if record.name.startswith("uvicorn") and record.levelno > logging.INFO
    ] == []
