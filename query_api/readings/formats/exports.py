"""Stream all readings of a device from one snapshot, in constant memory.

A stream lasts as long as its client reads, so it has its own connection. Closing the connection stops a COPY
immediately, whereas a pool would first read the rest of it. The number of streams is bounded, for each caller and in
total (`query_api.web.limits.turns`).

A `StreamFormat` has its COPY and its encoder. A stream whose reader is too slow is ended, as is one whose key or
session has ended (`permits.py`).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from typing import LiteralString
from zoneinfo import ZoneInfo

import msgspec
import structlog
from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from query_api.access.confirming import Credentials
from query_api.calendar.period import Period
from query_api.readings.formats.format import Encode, StreamFormat
from query_api.readings.formats.permits import Permit
from query_api.readings.row_stream import PARTS, Copy, Order, PartRows, Stretch, read_blocks
from query_api.statistics.blocks.reading.snapshot import begin
from query_api.web.answers.problems import AnyRequest
from query_api.web.limits.callers import caller_of
from query_api.web.limits.turns import Turns
from shared.postgres.connections import Connection, connect
from shared.postgres.distribution import is_distributed
from shared.readings.extents import extent_of

_STATE = "export"

_log = structlog.get_logger()

# A sort would read the whole history of a device before the first row is sent. The index has the rows in order. As rows
# are inserted roughly in the order of time, an index scan reads the table sequentially, too, which the planner ignores.
_SETTING: LiteralString = "SET enable_sort = off"
# The nodes of a cluster have a setting of this transaction only if it is passed on. They write the text of the values.
_SETTING_ON_NODES: LiteralString = (
    "SET LOCAL citus.propagate_set_commands = 'local'; SET LOCAL enable_sort = off; SET LOCAL extra_float_digits = 1"
)


async def prepare(connection: Connection) -> None:
    """Let the following rows be in the order of the index and, on a cluster, of one snapshot, which is not ended."""
    if await is_distributed(connection):
        await begin(connection)
        await connection.execute(_SETTING_ON_NODES, prepare=False)
    else:
        await connection.execute(_SETTING)


class ReaderBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds for the reader of a stream. A reader below them would occupy a place that others wait for."""

    standstill_s: float = 60.0
    """A stream is ended if its reader reads nothing for this long."""
    slowest: int = 16 * 1024
    """Bytes per second. A stream is ended if its reader falls `standstill_s` behind this rate."""
    max_range_bytes: int = 32 * 1024 * 1024
    """Size of a stream up to which ranges of it are served. It is held in memory."""


READERS = ReaderBounds()


class Pace:
    """Time that a reader has left for the next block, at most `standstill_s`: fast reading saves up no time."""

    def __init__(self, bounds: ReaderBounds = READERS) -> None:
        self._bounds = bounds
        self.left_s = bounds.standstill_s

    def taken(self, size: int, took_s: float) -> None:
        """Record that the reader took this number of seconds for `size` bytes."""
        self.left_s = min(self._bounds.standstill_s, self.left_s - took_s + size / self._bounds.slowest)


@contextmanager
def paced(pace: Pace, size: int, give_up: Callable[[], None]) -> Iterator[None]:
    """Time the sending of a block of `size` bytes. `give_up` is called if its reader is too slow."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    timer = loop.call_later(pace.left_s, give_up)
    try:
        yield
    finally:
        timer.cancel()
        pace.taken(size, loop.time() - began)


class _Wanted(msgspec.Struct, frozen=True):
    """The readings of a stream. `limit`: their maximum number; None: all."""

    copy: Copy
    device_id: int
    period: Period
    limit: int | None

    async def stretch(self, connection: Connection) -> Stretch:
        """Return the stretch of the period within the extent of the device."""
        extent = await extent_of(connection, [self.device_id])
        return Stretch(self.device_id, *extent.within(self.period.start, self.period.end), self.limit)


class Export(msgspec.Struct, frozen=True):
    """A stream that has started, and its right to send."""

    rows: AsyncGenerator[bytes]
    permit: Permit
    bounds: ReaderBounds


@contextmanager
def freed_if_it_fails(permit: Permit) -> Iterator[None]:
    """Free the permit if the block raises."""
    try:
        yield
    except BaseException:
        permit.free()
        raise


class Exports:
    """The streams of one process. `turns` bounds their number."""

    def __init__(
        self,
        url: str,
        turns: Turns,
        credentials: Credentials,
        bounds: ReaderBounds = READERS,
        parts: PartRows = PARTS,
    ) -> None:
        """`parts`: the numbers of rows that are read together on a cluster."""
        self._url = url
        self._turns = turns
        self._credentials = credentials
        self._bounds = bounds
        self._parts = parts

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
        zone: ZoneInfo | None = None,
    ) -> "Export":
        """Return a stream after its first block is ready, so that earlier errors become problem responses.

        `limit`: the maximum number of readings; None: all. `keeps_place`: the caller begins the response, and frees the
        permit, instead of the stream. `zone`: of the times; None: UTC.

        The route must have `close_export` as its after_response. Raises Refused if all places are taken, or if the
        credential of the request is lost.
        """
        wanted = _Wanted(form.copy(order, zone), device_id, period, limit)
        permit = Permit(request.scope, await self._turns.take(caller_of(request.scope)), self._credentials)
        with freed_if_it_fails(permit):
            blocks = self._blocks(permit, wanted, form.encoder(zone), keeps_place=keeps_place)
            first = await anext(blocks)
        if not keeps_place:
            permit.begin_response()
        export = request.scope["state"][_STATE] = Export(_chain(first, blocks), permit, self._bounds)
        return export

    async def _blocks(
        self, permit: Permit, wanted: "_Wanted", encode: Encode, *, keeps_place: bool
    ) -> AsyncGenerator[bytes]:
        async with AsyncExitStack() as stack:
            if not keeps_place:
                stack.callback(permit.free)
            connection = await stack.enter_async_context(await connect(self._url, "api export"))
            await prepare(connection)
            stretch = await wanted.stretch(connection)
            blocks = await stack.enter_async_context(
                aclosing(read_blocks(connection, wanted.copy, stretch, parts=self._parts))
            )
            stack.push_async_callback(connection.close)  # before psycopg ends a COPY, which reads the rest

            def give_up() -> None:  # frees the place, and the snapshot that keeps vacuum from removing rows
                _log.warning("a stream was ended: its reader is too slow")
                connection.pgconn.finish()
                permit.free()

            pace = Pace(self._bounds)
            more = True
            while more:
                # When the client disconnects, anyio cancels the stream repeatedly until it ends. That would also
                # interrupt psycopg's handling of the first cancellation. So it is cancelled between blocks only.
                await checkpoint_if_cancelled()
                with CancelScope(shield=True):
                    block, more = await anext(blocks)
                    encoded = await encode(block, more)
                if encoded or not more:
                    await permit.confirmed()
                    with paced(pace, len(encoded), give_up):
                        yield encoded


async def _chain(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for block in rest:
            yield block


async def close_export(request: AnyRequest) -> None:
    """End the stream after the response.

    Litestar does not close the stream of a client that disconnects. Its place would be free only after garbage
    collection.
    """
    export: Export | None = request.scope["state"].pop(_STATE, None)
    if export is not None:
        export.permit.free()
        await export.rows.aclose()
