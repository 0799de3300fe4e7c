"""Decode the body of a request strictly, or refuse it with every wrong field (`wrong_bodies.py`).

Litestar converts the result of `Request.json` leniently, as query strings need it ("1.5" is a number). JSON has types,
so msgspec decodes the body directly into the record that the handler takes.

The memory for long bodies is bounded: those that are not decoded have room for some, and one at a time is decoded.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import chain
from typing import Any

import msgspec
from litestar import Request

from query_api.web.answers import problems
from query_api.web.answers.problems import Problem, Refused, invalid
from query_api.web.limits.callers import caller_of
from query_api.web.requests.wrong_bodies import UNREADABLE, explained, malformed, require_length
from shared.encodings import BOM
from shared.event_loop.parts import each, turn

MAX_BODY_BYTES = 4 * 1024 * 1024
SMALL_BYTES = 64 * 1024
"""Bodies up to this size do not count against ROOM_BYTES."""
ROOM_BYTES = 256 * 1024 * 1024
"""For longer bodies that are not decoded, in total. A body without a length counts as MAX_BODY_BYTES."""
ROOM_EACH_BYTES = 64 * 1024 * 1024
"""For longer bodies of one caller, so that a client that announces bodies and sends none leaves room for others."""


class JsonRequest(Request[Any, Any, Any]):
    """A request whose JSON is decoded into the type of the handler's `data`."""

    _room: ExitStack | None = None
    """Room for the long body, until it is decoded."""

    async def json(self) -> Any:
        """Return the record. Raises Refused."""
        try:
            body = await super().body()
            self._require_json(body)
            field = self.route_handler.parsed_data_field
            assert field is not None, "only a handler that takes `data` has its body read"
            if len(body) <= SMALL_BYTES:
                return decode(body, field.annotation)
            self._forget_body()
            return await decode_long(body, field.annotation)
        finally:
            self._leave_room()

    def _require_json(self, body: bytes) -> None:
        media_type = self.content_type[0]
        if body and media_type != "application/json" and not media_type.endswith("+json"):
            raise Refused(
                problems.UNSUPPORTED_MEDIA_TYPE,
                f"the body is {media_type or 'of no type'}: send JSON, with the header Content-Type: application/json",
            )

    async def body(self) -> bytes:
        """Return the body. Litestar calls it before `json`. Raises Refused if there is no room."""
        length = MAX_BODY_BYTES if self.content_length is None else min(self.content_length, MAX_BODY_BYTES)
        if length <= SMALL_BYTES:
            return await super().body()
        with ExitStack() as room:
            room.enter_context(_long_bodies.room(caller_of(self.scope), length))
            body = await super().body()
            if body:  # Litestar calls `json`
                self._room = room.pop_all()
            return body

    def _leave_room(self) -> None:
        if self._room is not None:
            self._room.close()

    def _forget_body(self) -> None:
        """Free the memory of the body while its readings wait to be stored. Litestar keeps two references."""
        self._body = self._connection_state.body = b""


class Room:
    """The part of ROOM_BYTES in use by the requests of this process."""

    def __init__(self, total: int = ROOM_BYTES, each: int = ROOM_EACH_BYTES) -> None:
        self._total = total
        self._each = each
        self._taken = Counter[str]()

    @contextmanager
    def room(self, caller: str, length: int) -> Iterator[None]:
        """Reserve room for a body. Raises Refused if there is none: 429 for the bound of the caller."""
        if self._taken[caller] + length > self._each:
            raise _no_room(problems.TOO_MANY_REQUESTS, "too many long bodies of this key or address are in transfer")
        if self._taken.total() + length > self._total:
            raise _no_room(problems.UNAVAILABLE, "too many long bodies are in transfer")
        self._taken[caller] += length
        try:
            yield
        finally:
            self._taken[caller] -= length
            if not self._taken[caller]:
                del self._taken[caller]


def _no_room(problem: Problem, why: str) -> Refused:
    again = f"send fewer at a time, or retry in {problems.RETRY_AFTER_S} seconds"
    return Refused(problem, f"{why}: {again}", headers=problems.RETRY_AFTER)


_long_bodies = Room()


def decode(body: bytes, record: Any) -> Any:
    """Decode the body. Raises Refused: malformed, or with each wrong field."""
    try:
        return _decoded(body, record)
    except msgspec.ValidationError as error:
        raise invalid(*chain.from_iterable(explained(body, record, error))) from error
    except UNREADABLE as error:
        raise malformed(body, error) from error


async def decode_long(body: bytes, record: Any) -> Any:
    """Decode as `decode` does. Other requests are served meanwhile; no other long body is decoded."""
    try:
        async with turn():
            require_length(body, record)
            value = _decoded(body, record)
            await asyncio.sleep(0)
            return value
    except msgspec.ValidationError as error:
        parts = await each(explained(body, record, error), list)
        raise invalid(*chain.from_iterable(parts)) from error
    except UNREADABLE as error:
        raise malformed(body, error) from error


def _decoded(body: bytes, record: Any) -> Any:
    body = body.removeprefix(BOM)  # RFC 8259, section 8.1
    if not body.isascii():
        body.decode()  # msgspec does not check unknown fields
    return _decoder(record).decode(body)


@cache
def _decoder(record: Any) -> Any:
    return msgspec.json.Decoder(record)
