"""Compress responses of JSON with gzip for clients that accept it (RFC 9110 section 12.5.3).

Streams are sent as they are: their blocks are sent as soon as they are ready, and Parquet is compressed already.
Responses of routes that may hold secrets are not compressed, as their length would depend on the secret (BREACH). So
are responses to other methods than GET: the tokens and keys that they create are shown in them.
"""

import asyncio
import gzip

from litestar.datastructures.headers import Headers
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

from query_api.web.answers.vary import scope_depends_on

LEAST_BYTES = 1024
"""Size from which a response is compressed."""
LEVEL = 4
IN_THREAD_BYTES = 32 * 1024
"""Size from which a thread compresses it: a megabyte takes 15 ms."""
SECRET = ("/session", "/keys")
"""Paths of routes with secrets, and those below them."""


class Compression:
    """Compresses the responses of an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "GET" or _is_secret(scope["path"]):
            await self._app(scope, receive, send)
            return
        is_accepted = accepts_gzip(Headers.from_scope(scope).getall("accept-encoding", []))
        start: HTTPResponseStartEvent | None = None

        async def send_compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_json(message):
                scope_depends_on(scope, "Accept-Encoding")
                start = message
                return
            if start is not None and message["type"] == "http.response.body":
                body = message["body"]
                if is_accepted and not message["more_body"] and len(body) >= LEAST_BYTES:
                    body = await _compressed(body)
                    message = {**message, "body": body}
                    start["headers"] = _encoded(start, len(body))
                begin, start = start, None
                await send(begin)
            await send(message)

        await self._app(scope, receive, send_compressed)


def _is_secret(path: str) -> bool:
    return any(path == secret or path.startswith(f"{secret}/") for secret in SECRET)


def _is_json(start: HTTPResponseStartEvent) -> bool:
    """Whether the response is JSON that is not encoded, and not a part of something."""
    headers = dict(start["headers"])
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip()
    return start["status"] != 206 and b"content-encoding" not in headers and kind.endswith((b"/json", b"+json"))


def _encoded(start: HTTPResponseStartEvent, length: int) -> list[tuple[bytes, bytes]]:
    others = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
    return [*others, (b"content-encoding", b"gzip"), (b"content-length", b"%d" % length)]


async def _compressed(body: bytes) -> bytes:
    if len(body) < IN_THREAD_BYTES:
        return gzip.compress(body, LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)


def accepts_gzip(given: list[str]) -> bool:
    """Return whether these values of Accept-Encoding accept gzip. A quality that is malformed counts as 0."""
    qualities: dict[str, float] = {}
    for part in ",".join(given).lower().split(","):
        coding, _, parameter = part.partition(";")
        qualities[coding.strip()] = _quality(parameter)
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0))) > 0


def _quality(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if not name.strip():
        return 1.0
    try:
        return float(value) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0
