"""Ranges of a stream, for readers that ask for its length and then for parts of it, as polars does.

A stream is made while it is read, so its length is not known before its end. For HEAD, and for a request with a Range,
it is made whole in memory, up to MAX_BYTES. A longer one is to be read from its start to its end (RFC 9110 section 14).
"""

import hashlib
import re
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import msgspec
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_206_PARTIAL_CONTENT

from query_api.errors import displayed
from query_api.readings.formats.exports import Export, Pace, freed_if_it_fails, paced
from query_api.web.answers import problems
from query_api.web.answers.head import is_head
from query_api.web.answers.problems import AnyRequest, Refused
from query_api.web.limits.turns import Place

MAX_BYTES = 32 * 1024 * 1024
BLOCK_BYTES = 64 * 1024
_ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


class Part(msgspec.Struct, frozen=True):
    """Bytes of a content, from first to last, both included."""

    first: int
    last: int


def is_asked_for(request: AnyRequest) -> bool:
    """Whether the request needs the length of the answer: a HEAD, or one with a Range."""
    return is_head(request.scope) or "range" in request.headers


async def answer(request: AnyRequest, export: Export, media_type: str, headers: Mapping[str, str]) -> Stream:
    """The range of the stream that is asked for, or all of it. Raises Refused where it is too long, or has none.

    `export`: keeps its place. The content takes memory until it is sent, and for as long it has the place.
    """
    with freed_if_it_fails(export.place):
        content = await _whole(export.rows)
        if content is None and is_head(request.scope):
            return Stream(_sent(b"", export.place), media_type=media_type, headers={**headers, "Accept-Ranges": "none"})
        if content is None:
            raise _too_long()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**headers, "Accept-Ranges": "bytes", "ETag": tag}
        part = read(_wanted(request, tag), len(content))
    status = HTTP_200_OK
    if part is not None:
        headers["Content-Range"] = f"bytes {part.first}-{part.last}/{len(content)}"
        content, status = content[part.first : part.last + 1], HTTP_206_PARTIAL_CONTENT
    headers["Content-Length"] = str(len(content))
    return Stream(_sent(content, export.place), media_type=media_type, headers=headers, status_code=status)


def _too_long() -> Refused:
    detail = f"a stream has ranges up to {MAX_BYTES:,} bytes, and this is longer: read it without Range, or limit it"
    return Refused(problems.RANGE_NOT_SATISFIABLE, detail, headers={"Accept-Ranges": "none"})


async def _sent(content: bytes, place: Place) -> AsyncGenerator[bytes]:
    """The content in blocks. A reader that is too slow loses the place, and what it has not taken."""
    left = deque(content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES))
    del content

    def give_up() -> None:
        left.clear()
        place.free()

    pace = Pace()
    try:
        while left:
            block = left.popleft()
            with paced(pace, len(block), give_up):
                yield block
    finally:
        place.free()


def _wanted(request: AnyRequest, tag: str) -> str:
    """The Range; empty where it does not count: with HEAD (RFC 9110 section 14.2), and of content that has changed."""
    counts = not is_head(request.scope) and request.headers.get("if-range", tag) == tag
    return request.headers.get("range", "") if counts else ""


async def _whole(blocks: AsyncGenerator[bytes]) -> bytes | None:
    """The content of the stream; None where it is longer than MAX_BYTES."""
    content = bytearray()
    async with aclosing(blocks):
        async for block in blocks:
            content += block
            if len(content) > MAX_BYTES:
                return None
    return bytes(content)


def read(given: str, length: int) -> Part | None:
    """The one range that the header names; None where it names none, or several: then the whole is sent.

    Raises Refused where the content has no such range.
    """
    found = _ONE_RANGE.fullmatch(given.strip())
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found.groups()
    if first and last and int(first) > int(last):
        return None
    part = Part(int(first), min(int(last or length), length - 1)) if first else _suffix(int(last), length)
    if part.first > part.last:
        detail = f"the content has {length:,} bytes, and Range is {displayed(given)}"
        headers = {"Content-Range": f"bytes */{length}"}
        raise Refused(problems.RANGE_NOT_SATISFIABLE, detail, headers=headers)
    return part


def _suffix(count: int, length: int) -> Part:
    return Part(max(0, length - count), length - 1)
