"""Ranges of a stream, for clients that request its length and then parts of it, as polars does.

A stream is encoded while it is read, so its length is unknown until its end. For HEAD, and for a request with a Range,
the whole stream is held in memory, up to max_range_bytes. A longer stream has no ranges (RFC 9110 section 14).
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

BLOCK_BYTES = 64 * 1024
_ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


class Part(msgspec.Struct, frozen=True):
    """A range of bytes, from first to last, both included."""

    first: int
    last: int


def is_asked_for(request: AnyRequest) -> bool:
    """Return whether the response needs its length: for HEAD, and for a request with Range."""
    return is_head(request.scope) or "range" in request.headers


async def answer(request: AnyRequest, export: Export, media_type: str, headers: Mapping[str, str]) -> Stream:
    """Return the requested range of the stream, or all of it. Raises Refused if it is too long or has no such range.

    `export` keeps its place until the content is sent, as the content is in memory until then.
    """
    with freed_if_it_fails(export.permit):
        content = await _whole(export)
        if content is None and is_head(request.scope):
            return Stream(_sent([], export), media_type=media_type, headers={**headers, "Accept-Ranges": "none"})
        if content is None:
            raise _too_long(export.bounds.max_range_bytes)
        headers = {**headers, "Accept-Ranges": "bytes", "ETag": content.tag}
        part = read(_wanted(request, content.tag), content.length)
    status, length = HTTP_200_OK, content.length
    if part is not None:
        headers["Content-Range"] = f"bytes {part.first}-{part.last}/{content.length}"
        length, status = part.last + 1 - part.first, HTTP_206_PARTIAL_CONTENT
    headers["Content-Length"] = str(length)
    blocks = content.blocks if part is None else _within(content.blocks, part)
    export.permit.begin_response()
    return Stream(_sent(blocks, export), media_type=media_type, headers=headers, status_code=status)


def _too_long(max_bytes: int) -> Refused:
    detail = f"ranges are available up to {max_bytes:,} bytes, and this stream is longer: request it without Range"
    return Refused(problems.RANGE_NOT_SATISFIABLE, detail, headers={"Accept-Ranges": "none"})


async def _sent(blocks: list[bytes], export: Export) -> AsyncGenerator[bytes]:
    """Yield the blocks. If the reader is too slow, the place is freed and the rest is discarded."""
    left = deque(blocks)
    blocks.clear()

    def give_up() -> None:
        left.clear()
        export.permit.free()

    pace = Pace(export.bounds)
    try:
        while left:
            await export.permit.confirmed()
            block = left.popleft()
            with paced(pace, len(block), give_up):
                yield block
    finally:
        export.permit.free()


def _wanted(request: AnyRequest, tag: str) -> str:
    """Return the Range, or an empty text if it does not apply: for HEAD (RFC 9110 section 14.2) or changed content."""
    applies = not is_head(request.scope) and request.headers.get("if-range", tag) == tag
    return request.headers.get("range", "") if applies else ""


class _Content(msgspec.Struct, frozen=True):
    """A whole stream. `tag`: its entity tag."""

    blocks: list[bytes]
    length: int
    tag: str


async def _whole(export: Export) -> _Content | None:
    """Return the content of the stream; None if it is longer than max_range_bytes."""
    blocks: list[bytes] = []
    length, digest = 0, hashlib.sha256()  # block by block: the whole would hold the event loop
    async with aclosing(export.rows):
        async for block in export.rows:
            length += len(block)
            if length > export.bounds.max_range_bytes:
                return None
            digest.update(block)
            blocks += (block[at : at + BLOCK_BYTES] for at in range(0, len(block), BLOCK_BYTES))
    return _Content(blocks, length, f'"{digest.hexdigest()[:32]}"')


def _within(blocks: list[bytes], part: Part) -> list[bytes]:
    """Return the part of the blocks."""
    found, at = [], 0
    for block in blocks:
        first, last = max(part.first - at, 0), min(part.last + 1 - at, len(block))
        if first < last:
            found.append(block[first:last])
        at += len(block)
    return found


def read(given: str, length: int) -> Part | None:
    """Return the range in the header; None if there is none or several, as the whole content is then sent.

    Raises Refused if the content has no such range.
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
