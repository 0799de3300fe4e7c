"""All of a device's readings as one stream, made by the database's own COPY: memory stays constant.

A stream lasts as long as its slowest reader, so each has a connection of its own, which is closed at its end:
that stops a COPY at once wherever it is, where a pool would have to read the rest of it first. There are only
so many at once, of each caller and of all (`query_api.web.limits.turns`).

A `StreamFormat` has its COPY and its encoder. A stream whose reader is too slow is ended.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from typing import LiteralString

import msgspec
import structlog
from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from query_api.calendar.period import Period
from query_api.readings.formats.format import Encode, Order, StreamFormat
from query_api.web.answers.problems import AnyRequest
from query_api.web.limits.callers import caller_of
from query_api.web.limits.turns import Place, Turns
from shared.postgres.connections import Connection, connect
from shared.readings.binary_copy import next_block
from shared.readings.extents import extent_of

_STATE = "export"
STANDSTILL_S = 60.0
"""A stream whose reader takes nothing for so long is ended,"""
SLOWEST = 16 * 1024
"""and one whose reader falls so far behind so many bytes a second: else a few who read a little now and then would keep
all others out for as long as they like."""

_log = structlog.get_logger()

# A sort would read a device's whole history before the first row is sent. The index has the rows in order, and as
# they came in the order of time, it meets the table's pages one after the other, too: the planner does not know that.
SETTING: LiteralString = "SET enable_sort = off"


class Pace:
    """The time that a reader has for what is sent next. It is not saved up: `left_s` is STANDSTILL_S at the most."""

    def __init__(self) -> None:
        self.left_s = STANDSTILL_S
        """Seconds."""

    def taken(self, size: int, took_s: float) -> None:
        """So many bytes were taken in so many seconds."""
        self.left_s = min(STANDSTILL_S, self.left_s - took_s + size / SLOWEST)


@contextmanager
def paced(pace: Pace, size: int, give_up: Callable[[], None]) -> Iterator[None]:
    """While a block of `size` bytes is being sent: `give_up` is called if its reader is too slow."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    timer = loop.call_later(pace.left_s, give_up)
    try:
        yield
    finally:
        timer.cancel()
        pace.taken(size, loop.time() - began)


class _Wanted(msgspec.Struct, frozen=True):
    """What a stream is to hold. `limit`: at most as many readings; None: all."""

    statement: LiteralString
    device_id: int
    period: Period
    limit: int | None

    async def parameters(self, connection: Connection) -> dict[str, object]:
        """Of the statement, with the period cut to what the device has."""
        extent = await extent_of(connection, [self.device_id])
        start, end = extent.within(self.period.start, self.period.end)
        return {"device_id": self.device_id, "start": start, "end": end, "limit": self.limit}


class Export(msgspec.Struct, frozen=True):
    """A stream that has begun, and its place."""

    rows: AsyncGenerator[bytes]
    place: Place


@contextmanager
def freed_if_it_fails(place: Place) -> Iterator[None]:
    """The place is freed where the block raises."""
    try:
        yield
    except BaseException:
        place.free()
        raise


class Exports:
    """The streams of one database, as many at once as there are places."""

    def __init__(self, url: str, turns: Turns) -> None:
        self._url = url
        self._turns = turns

    async def start(
        self,
        request: AnyRequest,
        device_id: int,
        period: Period,
        form: StreamFormat,
        order: Order,
        limit: int | None,
        *,
        keeps_place: bool,
    ) -> "Export":
        """The stream, once its first block is there: what fails before that is still answered as a problem.

        `limit`: at most as many readings; None: all. `keeps_place`: its end does not free its place, which the caller
        then owes.

        The route has `close_export` as its after_response. Raises Refused where all places are taken.
        """
        wanted = _Wanted(form.copy(order), device_id, period, limit)
        place = await self._turns.take(caller_of(request.scope))
        with freed_if_it_fails(place):
            blocks = self._blocks(place, wanted, form.encoder(), keeps_place=keeps_place)
            first = await anext(blocks)
        export = request.scope["state"][_STATE] = Export(_chain(first, blocks), place)
        return export

    async def _blocks(
        self, place: Place, wanted: "_Wanted", encode: Encode, *, keeps_place: bool
    ) -> AsyncGenerator[bytes]:
        async with AsyncExitStack() as stack:
            if not keeps_place:
                stack.callback(place.free)
            connection = await stack.enter_async_context(await connect(self._url, "api export"))
            await connection.execute(SETTING)
            cursor = await stack.enter_async_context(connection.cursor())
            parameters = await wanted.parameters(connection)
            copy = await stack.enter_async_context(cursor.copy(wanted.statement, parameters))
            stack.push_async_callback(connection.close)  # before the COPY's own end, which would read the rest

            def give_up() -> None:  # else it would keep its place, and the snapshot, from which no row can be vacuumed
                _log.warning("a stream is ended: its reader takes too little of it")
                connection.pgconn.finish()
                place.free()

            pace = Pace()
            more = True
            while more:
                # When its reader goes away a stream is cancelled by anyio, again and again until it has ended,
                # also in the middle of psycopg's own answer to the first time. So it is between blocks only.
                await checkpoint_if_cancelled()
                with CancelScope(shield=True):
                    block, more = await next_block(copy)
                    encoded = await encode(block, more)
                if encoded or not more:
                    with paced(pace, len(encoded), give_up):
                        yield encoded


async def _chain(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for block in rest:
            yield block


async def close_export(request: AnyRequest) -> None:
    """After the response: ends its stream. A reader that went away leaves it in the middle, and Litestar does not
    close it: its place would be free only when the garbage collector comes by."""
    export: Export | None = request.scope["state"].pop(_STATE, None)
    if export is not None:
        export.place.free()
        await export.rows.aclose()
