"""All of a device's readings as one stream, made by the database's own COPY: memory stays constant.

A stream lasts as long as its slowest reader, so each has a connection of its own, which is closed at its end:
that stops a COPY at once wherever it is, where a pool would have to read the rest of it first. There are only
so many at once, of each caller and of all (`query_api.web.limits.turns`).

CSV and NDJSON are sent as the database makes them; `tables.py` makes Arrow and Parquet of binary rows.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from typing import Literal, LiteralString

import msgspec
import structlog
from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from query_api.calendar.period import Period
from query_api.readings.formats.copying import next_block
from query_api.readings.formats.negotiation import ARROW, CSV, NDJSON, PARQUET, TABLES
from query_api.readings.formats.pace import Pace, paced
from query_api.readings.formats.tables import TableEncoder
from query_api.web.answers.problems import AnyRequest
from query_api.web.limits.callers import caller_of
from query_api.web.limits.turns import Place, Turns
from shared.postgres.connections import Connection, connect
from shared.readings.extents import extent_of

Order = Literal["asc", "desc"]
_Encode = Callable[[bytes, bool], Awaitable[bytes]]
"""Makes a block, and whether more follow, into what is sent."""
_STATE = "export"

_log = structlog.get_logger()

_SELECT = """
    SELECT {columns}
    FROM readings
    WHERE device_id = %(device_id)s
      AND recorded_at >= coalesce(%(start)s::timestamptz, '-infinity')
      AND recorded_at <= coalesce(%(end)s::timestamptz, 'infinity')
    ORDER BY {order}
    LIMIT %(limit)s
"""
# Six digits and a point, always: readers take the type of a column from its first values. PostgreSQL writes 1 for 1.0,
# and 1e-07 for what JSON would have as 1.0e-07.
_MOMENT = """to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_X, _Y, _Z = (
    f"""CASE WHEN {axis} = trunc({axis}) THEN {axis}::text || '.0' WHEN strpos({axis}::text, '.') > 0 THEN {axis}::text
             ELSE replace({axis}::text, 'e', '.0e') END"""
    for axis in ("x", "y", "z")
)
_TEXT_COLUMNS = f"id, device_id, {_X} AS x, {_Y} AS y, {_Z} AS z, {_MOMENT} AS timestamp"
_JSON_COLUMNS = f"""
    concat('{{"id":', id, ',"device_id":', device_id, ',"x":', {_X}, ',"y":', {_Y}, ',"z":', {_Z},
           ',"timestamp":"', {_MOMENT}, '"}}')
"""
_ORDERS: dict[Order, LiteralString] = {
    "asc": "recorded_at, x, y, z",
    "desc": "recorded_at DESC, x DESC, y DESC, z DESC",
}
_TEXT, _JSON, _BINARY = (
    {order: _SELECT.format(columns=columns, order=keys) for order, keys in _ORDERS.items()}
    for columns in (_TEXT_COLUMNS, _JSON_COLUMNS, "id, device_id, x, y, z, recorded_at")
)
# In COPY's text format a backslash would be doubled; the JSON of numbers and times holds none.
# They are composed of the constants above, without a value from outside.
COPIES: dict[tuple[str, Order], LiteralString] = {
    (media_type, order): copy
    for order in _ORDERS
    for media_type, copy in {
        CSV: f"COPY ({_TEXT[order]}) TO STDOUT (FORMAT csv, HEADER)",
        NDJSON: f"COPY ({_JSON[order]}) TO STDOUT",
        ARROW: f"COPY ({_BINARY[order]}) TO STDOUT (FORMAT binary)",
        PARQUET: f"COPY ({_BINARY[order]}) TO STDOUT (FORMAT binary)",
    }.items()
}
# A sort would read a device's whole history before the first row is sent. The index has the rows in order, and as
# they came in the order of time, it meets the table's pages one after the other, too: the planner does not know that.
SETTING: LiteralString = "SET enable_sort = off"


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
        media_type: str,
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
        encode = TableEncoder(media_type).encode if media_type in TABLES else _as_it_is
        wanted = _Wanted(COPIES[media_type, order], device_id, period, limit)
        place = await self._turns.take(caller_of(request.scope))
        with freed_if_it_fails(place):
            blocks = self._blocks(place, wanted, encode, keeps_place=keeps_place)
            first = await anext(blocks)
        export = request.scope["state"][_STATE] = Export(_chain(first, blocks), place)
        return export

    async def _blocks(
        self, place: Place, wanted: "_Wanted", encode: _Encode, *, keeps_place: bool
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


async def _as_it_is(block: bytes, _: bool) -> bytes:
    return block


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
