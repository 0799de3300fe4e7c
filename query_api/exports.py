"""All of a device's readings as one stream, made by the database's own COPY: memory stays constant.

A stream lasts as long as its slowest reader, so streams have a pool of their own, and when all of its
connections are taken the next one is told to come back (503).
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Literal

from query_api.problems import AnyRequest
from query_api.times import Period
from shared.database import Pool

CSV = "text/csv"
NDJSON = "application/x-ndjson"
_STATE = "export"
BLOCK_BYTES = 64 * 1024
"""COPY brings a row at a time; they are sent on in blocks of this size."""

_ROWS = """
    SELECT id, device_id, x, y, z,
           to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS timestamp
    FROM readings
    WHERE device_id = %(device_id)s
      AND recorded_at >= coalesce(%(start)s::timestamptz, '-infinity')
      AND recorded_at <= coalesce(%(end)s::timestamptz, 'infinity')
"""
_ASCENDING = _ROWS + "ORDER BY recorded_at, x, y, z"
_DESCENDING = _ROWS + "ORDER BY recorded_at DESC, x DESC, y DESC, z DESC"
# In COPY's text format a backslash would be doubled; the JSON of numbers and times holds none.
# S608: they are composed of the constants above, without a value from outside.
_COPY = {
    (CSV, "asc"): f"COPY ({_ASCENDING}) TO STDOUT (FORMAT csv, HEADER)",
    (CSV, "desc"): f"COPY ({_DESCENDING}) TO STDOUT (FORMAT csv, HEADER)",
    (NDJSON, "asc"): f"COPY (SELECT row_to_json(row) FROM ({_ASCENDING}) AS row) TO STDOUT",  # noqa: S608
    (NDJSON, "desc"): f"COPY (SELECT row_to_json(row) FROM ({_DESCENDING}) AS row) TO STDOUT",  # noqa: S608
}


async def export(
    request: AnyRequest, pool: Pool, device_id: int, period: Period, media_type: str, order: Literal["asc", "desc"]
) -> AsyncGenerator[bytes]:
    """The stream, once its first block is there: what fails before that is still answered as a problem.

    The route has `close_export` as its after_response.
    """
    parameters: dict[str, object] = {"device_id": device_id, "start": period.start, "end": period.end}
    blocks = _blocks(pool, _COPY[media_type, order], parameters)
    first = await anext(blocks, b"")
    stream = request.scope["state"][_STATE] = _chain(first, blocks)
    return stream


async def _chain(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for block in rest:
            yield block


async def close_export(request: AnyRequest) -> None:
    """After the response: ends its stream. A reader that went away leaves it in the middle, and Litestar does not
    close it: its connection would be free only when the garbage collector comes by."""
    stream: AsyncGenerator[bytes] | None = request.scope["state"].pop(_STATE, None)
    if stream is not None:
        await stream.aclose()


async def _blocks(pool: Pool, copy_statement: str, parameters: dict[str, object]) -> AsyncGenerator[bytes]:
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(pool.connection())
        cursor = await stack.enter_async_context(connection.cursor())
        copy = await stack.enter_async_context(cursor.copy(copy_statement, parameters))
        block = bytearray()
        async for row in copy:
            block += row
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        yield bytes(block)
