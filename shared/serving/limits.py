"""Limits on the connections of an HTTP server: a client that neither sends nor reads cannot hold one open.

uvicorn with httptools limits only the time between two requests. This module limits time and size of a request's
head and body, the time in which a client must read, and the number of connections. A client that exceeds a limit gets a
problem (RFC 9457) and is disconnected.

A timer for each request would cost more than parsing it: `watch` checks all connections once a second.
"""

import asyncio
import ipaddress
import math
import resource
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, cast

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.serving.cutting import with_transport
from shared.serving.security_headers import POLICY

MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINED = 8
"""Requests that wait for the answer of an earlier one on their connection."""
RESERVED_FILES = 128
"""File descriptors that are kept for the database, the log and files."""


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits on one connection, and on the number of connections."""

    head_within_s: float = 10.0
    """Time from the connection, or from the first byte of a later request, to the end of its headers."""
    body_within_s: float = 30.0
    """Time from the first byte of a request to its last."""
    standstill_s: float = 60.0
    """Time within which a client must read some of the response."""
    max_request_bytes: int = 16 * 1024 * 1024
    """Includes headers and chunk framing. The application limits the body itself."""
    max_connections: int = 4096
    look_every_s: float = 1.0
    """Interval at which `watch` checks the connections."""


LIMITS = ConnectionLimits()


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with limits."""

    def __init__(self, *args: Any, limits: ConnectionLimits = LIMITS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._at_most = connections_at_most(limits)
        self._in_head = True  # the headers are incomplete
        self._whole = False  # the request is complete
        self._received = 0  # approximate bytes of the request
        self._waits_since: float | None = self.loop.time()  # for data of the client
        self._moved_at = self._waits_since
        self._left: float = 0  # bytes in the write buffer at the last check

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self.client = (plain_address(self.client[0]), self.client[1])
        if len(self.connections) > self._at_most:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._at_most} connections are open: try again later")

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if not self._waits_for_client():
            self._waits_since = None
        elif self._received > (MAX_HEAD_BYTES if self._in_head else self._limits.max_request_bytes):
            self._refuse_size()
        elif self._waits_since is None:
            self._waits_since = self.loop.time()

    def _waits_for_client(self) -> bool:
        """Return whether the server waits for the client: for the rest of a request, or for one that has no timer."""
        if not self._whole:
            return True
        return self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete)

    # Called by the parser.

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise httptools.HttpParserError("too many requests at once")
        super().on_message_begin()
        self.scope["extensions"] = with_transport(self.transport)
        self._in_head, self._whole, self._received = True, False, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._whole = True
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore an upgrade request (RFC 9110 section 7.8). uvicorn would log advice to install a WebSocket library."""

    # Refusals.

    def send_400_response(self, msg: str) -> None:
        """Answer a request that the parser cannot read; uvicorn calls this."""
        self._refuse(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1, or its form is not supported")

    def _refuse_size(self) -> None:
        if self._in_head:
            detail = f"the request's headers and address are longer than {MAX_HEAD_BYTES:,} bytes"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        else:
            detail = f"the request is over {self._limits.max_request_bytes:,} bytes"
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer with a problem and close the connection; if another response is due first, close it after that."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self._awaits_body():
            self.transport.write(_answer(status, detail, self.server_state.default_headers))
            self.transport.close()
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()  # wakes the reader of the body
        else:
            cycle.keep_alive = False
            self.flow.pause_reading()

    def _awaits_body(self) -> bool:
        """Return whether the current request is incomplete and unanswered."""
        return not (self._in_head or self._whole or self.pipeline or self.cycle.response_started)

    # Called by `watch`.

    def look(self, now: float) -> None:
        """Close the connection if its client has exceeded a time limit."""
        if self.transport.is_closing() or self.flow.write_paused:
            self._require_reading(now)
            return
        self._moved_at = now
        if self._waits_since is None:
            return
        within = self._limits.head_within_s if self._in_head else self._limits.body_within_s
        if now - self._waits_since > within:
            what = "headers" if self._in_head else "body"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request's {what} did not arrive within {within:g} seconds")

    def _require_reading(self, now: float) -> None:
        left = self.transport.get_write_buffer_size()
        if left < self._left:
            self._moved_at = now
        self._left = left
        if now - self._moved_at > self._limits.standstill_s:
            self.transport.abort()

    def resume_writing(self) -> None:
        self._left = math.inf  # the client has read, so the next check must not see a standstill
        super().resume_writing()


async def watch(connections: Iterable[object], every_s: float) -> None:
    """Close connections whose clients have exceeded a time limit, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(every_s)
        for connection in list(connections):
            cast("LimitedProtocol", connection).look(loop.time())


def _answer(status: HTTPStatus, detail: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    body = msgspec.json.encode(problem)
    lines = [
        b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode()),
        *(b"%b: %b" % header for header in (*headers, POLICY)),
        b"content-type: application/problem+json",
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    return b"\r\n".join([*lines, b"", body])


def plain_address(host: str) -> str:
    """Return the address; a mapped IPv4 address (::ffff:192.0.2.1), as on a dual-stack socket, in IPv4 form."""
    if not host.startswith("::ffff:"):
        return host
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    return host if mapped is None else str(mapped)


def connections_at_most(limits: ConnectionLimits) -> int:
    """Return the maximum of connections, which also depends on the limit on open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limits.max_connections if files < 0 else max(1, min(limits.max_connections, files - RESERVED_FILES))


def allow_many_files() -> None:
    """Raise the limit on open files for `max_connections`, as far as the system allows."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = LIMITS.max_connections + RESERVED_FILES
    if 0 <= files < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if most < 0 else min(wanted, most), most))
