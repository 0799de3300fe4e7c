"""The rows of a device in order, as the data of one COPY.

Citus collects the result of a COPY on the coordinator before it sends the first row. So on a cluster the rows are read
in parts, each by a COPY of its own. A part begins with the key of a row, which is unique, so that rows of one time may
be in two parts. The key is found first, in the index of the device's node. The data does not show the parts.
"""

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from itertools import product
from typing import Literal, LiteralString

import msgspec
from psycopg.rows import class_row

from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.readings.binary_copy import BLOCK_BYTES, HEADER, TRAILER, next_block

Order = Literal["asc", "desc"]


class PartRows(msgspec.Struct, frozen=True):
    """Numbers of rows. `first`: of the first part, which is sent soon. Each later part has twice as many, up to `most`.

    The coordinator holds one part, by default in less than the 4 MB of its work_mem.
    """

    first: int = 2_048
    most: int = 8_192


PARTS = PartRows()


class _Key(msgspec.Struct, frozen=True):
    """The unique key of a row among those of its device."""

    at: datetime
    x: float
    y: float
    z: float


class Stretch(msgspec.Struct, frozen=True):
    """The rows of a device from `start` to `end`, both included; None: no bound.

    `limit`: the maximum number of rows. `key`: of the row at which they begin in their order; None: no bound.
    """

    device_id: int
    start: datetime | None
    end: datetime | None
    limit: int | None = None
    key: _Key | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of the statements below."""
        given = msgspec.structs.asdict(self)
        key = given.pop("key")
        return given if key is None else given | msgspec.structs.asdict(key)

    def cut(self, order: Order, rows: int, key: _Key) -> tuple["Stretch", "Stretch"]:
        """Return the first rows, of this number, and those behind, which begin at the key."""
        left = None if self.limit is None else self.limit - rows
        before = {"end": key.at} if order == "asc" else {"start": key.at}
        behind = {"start": key.at} if order == "asc" else {"end": key.at}
        return (
            msgspec.structs.replace(self, limit=rows, **before),
            msgspec.structs.replace(self, limit=left, key=key, **behind),
        )


_ROWS: LiteralString = """
    SELECT {columns} FROM readings
    WHERE device_id = %(device_id)s
      AND recorded_at >= coalesce(%(start)s::timestamptz, '-infinity')
      AND recorded_at <= coalesce(%(end)s::timestamptz, 'infinity'){begin}
    ORDER BY {order} LIMIT %(limit)s
"""
_ORDERS: Mapping[Order, LiteralString] = {
    "asc": "recorded_at, x, y, z",
    "desc": "recorded_at DESC, x DESC, y DESC, z DESC",
}
_BEGIN: Mapping[Order, LiteralString] = {
    "asc": " AND (recorded_at, x, y, z) >= (%(at)s::timestamptz, %(x)s::float8, %(y)s::float8, %(z)s::float8)",
    "desc": " AND (recorded_at, x, y, z) <= (%(at)s::timestamptz, %(x)s::float8, %(y)s::float8, %(z)s::float8)",
}


def _select(columns: LiteralString, order: Order, *, has_key: bool) -> LiteralString:
    return _ROWS.format(columns=columns, order=_ORDERS[order], begin=_BEGIN[order] if has_key else "")


class Copy(msgspec.Struct, frozen=True):
    """A COPY of rows in order. `columns`, `options`: parts of the statement."""

    columns: LiteralString
    order: Order = "asc"
    options: LiteralString = ""

    def statement(self, *, has_key: bool = False) -> LiteralString:
        """Return the statement for a stretch, which has a key or not."""
        return "COPY (" + _select(self.columns, self.order, has_key=has_key) + ") TO STDOUT" + self.options


_KEYS: Mapping[tuple[Order, bool], LiteralString] = {
    (order, has_key): _select("recorded_at AS at, x, y, z", order, has_key=has_key) + " OFFSET %(rows)s"
    for order, has_key in product(_ORDERS, (False, True))
}


async def _cut(connection: Connection, stretch: Stretch, order: Order, rows: int) -> tuple[Stretch, Stretch | None]:
    """Return the first rows of the stretch, of this number, and those behind, if there are any."""
    if stretch.limit is not None and stretch.limit <= rows:
        return stretch, None
    statement = _KEYS[order, stretch.key is not None]
    async with connection.cursor(row_factory=class_row(_Key)) as cursor:
        await cursor.execute(statement, {**stretch.parameters, "limit": 1, "rows": rows}, prepare=False)
        key = await cursor.fetchone()
    return (stretch, None) if key is None else stretch.cut(order, rows, key)


async def read_blocks(
    connection: Connection, copy: Copy, stretch: Stretch, size: int = BLOCK_BYTES, parts: PartRows = PARTS
) -> AsyncGenerator[tuple[bytes, bool]]:
    """Yield blocks of whole rows, of about `size` bytes, and whether more may follow.

    On a cluster, they are of several statements: the caller has begun a snapshot. Raises what `next_block` raises.
    """
    is_in_parts, rows = await is_distributed(connection), parts.first
    behind: Stretch | None = stretch
    block = b""
    while behind is not None:
        part, behind = behind, None
        if is_in_parts:
            part, behind = await _cut(connection, part, copy.order, rows)
            rows = min(2 * rows, parts.most)
        statement = copy.statement(has_key=part.key is not None)
        async with connection.cursor() as cursor, cursor.copy(statement, part.parameters) as running:
            more = True
            if part.key is not None:
                first, more = await next_block(running, 1)
                block += first.removeprefix(HEADER)
            while more:
                block, more = await next_block(running, size, block)
                if more:
                    yield block, True
                    block = b""
        if behind is not None:
            block = block.removesuffix(TRAILER)
    yield block, False
