"""Lists of devices in the order of their activity or their name, and of some states only (ADR 47).

Each order has an index of `device_activity` that begins with the state. A page merges the first rows of each state, so
that no list is sorted as a whole. Like `search.py`, a search reads the first devices of the order, which fill the page
if the text is common, and then uses the index of trigrams.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, LiteralString

import msgspec
from psycopg.rows import class_row

from query_api.devices.activity import State
from query_api.devices.registration import Row
from query_api.devices.search import MATCHES, READ_FIRST, READ_FIRST_OF_PAGE, condition
from query_api.ids import MAX_ID
from shared.event_loop.parts import fetched
from shared.postgres.connections import Connection

_LATEST = 1 << 53
"""Microseconds since 1970 up to which float8 has each whole number. The year is 2255."""


class Order(StrEnum):
    """The order of a list, ascending or, with a minus, descending."""

    ID = "id"
    ID_DESC = "-id"
    NAME = "name"
    NAME_DESC = "-name"
    LAST_SEEN = "last_seen"
    LAST_SEEN_DESC = "-last_seen"
    RATE = "rate"
    RATE_DESC = "-rate"
    STATE = "state"
    STATE_DESC = "-state"


_Id = Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


class ById(msgspec.Struct, frozen=True, array_like=True, tag="devices by id"):
    """The position of a device in a list. `order`: of the list, so that a cursor of another order is refused."""

    order: str
    value: None
    id: _Id


class ByState(ById, frozen=True, array_like=True, tag="devices by state"):
    """`value`: the code of the state."""

    value: Annotated[int, msgspec.Meta(ge=0, le=3)]  # type: ignore[assignment]


class ByLast(ById, frozen=True, array_like=True, tag="devices by last_seen"):
    """`value`: microseconds since 1970; None: never."""

    value: Annotated[int, msgspec.Meta(ge=-_LATEST, le=_LATEST)] | None  # type: ignore[assignment]


class ByRate(ById, frozen=True, array_like=True, tag="devices by rate"):
    """`value`: readings per second."""

    value: Annotated[float, msgspec.Meta(ge=0)]  # type: ignore[assignment]


class ByName(ById, frozen=True, array_like=True, tag="devices by name"):
    """`value`: the name in lower case."""

    value: Annotated[str, msgspec.Meta(max_length=1_000, pattern=r"^[^\x00]*$")]  # type: ignore[assignment]


class _Column(msgspec.Struct, frozen=True):
    """What a list is sorted by, and the kind of its cursors.

    `name`: the column of device_activity; None: the id alone. `cell`: its value for a cursor. `bound`: the value of a
    cursor in the type of the column.
    """

    kind: type[ById]
    name: LiteralString | None = None
    cell: LiteralString = "NULL"
    bound: LiteralString = ""


_COLUMNS = {
    "id": _Column(ById),
    "name": _Column(ByName, "lower_name", "lower_name", "%(value)s::text"),
    "last_seen": _Column(
        ByLast, "last_at",
        "CASE WHEN isfinite(last_at) THEN (extract(epoch FROM last_at) * 1000000)::bigint END",
        "coalesce('epoch'::timestamptz + %(value)s::bigint * interval '1 microsecond', '-infinity')",
    ),
    "rate": _Column(ByRate, "rate", "rate", "%(value)s::float8"),
    "state": _Column(ByState, "state", "state", "%(value)s::smallint"),
}  # fmt: skip


class OrderedRow(Row, frozen=True, kw_only=True):
    """A row of devices, and the value by which it is sorted."""

    cell: int | float | str | None


class Ordered(msgspec.Struct, frozen=True):
    """A list: its order, its states, and the text that it is searched for."""

    order: Order
    states: Sequence[State]
    search: str | None = None

    @property
    def _column(self) -> _Column:
        return _COLUMNS[self.order.removeprefix("-")]

    @property
    def kind(self) -> type[ById]:
        """The kind of its cursors."""
        return self._column.kind

    def position(self, row: OrderedRow) -> ById:
        """Return the position of a row."""
        return self.kind(self.order, row.cell, row.id)  # type: ignore[arg-type]  # the kind is that of the column

    def parts(self, *, is_first: bool) -> "_Parts":
        """Return the parts of its statements. `is_first`: for the first page."""
        column, is_down = self._column, self.order.startswith("-")
        direction: LiteralString = " DESC" if is_down else ""
        compared: LiteralString = "<" if is_down else ">"
        keys: LiteralString = f"{column.name}, device_id" if column.name else "device_id"
        bound: LiteralString = f"{column.bound}, %(id)s" if column.name else "%(id)s"
        by: LiteralString = f"{column.name}{direction}, device_id" if column.name else "device_id"
        return _Parts(
            by=f"{by}{direction}",
            follows="true" if is_first else f"({keys}) {compared} ({bound})",
            columns=f"device_id AS id, devices.key, devices.name, devices.created_at, {column.cell} AS cell",
        )


class _Parts(msgspec.Struct, frozen=True):
    """Parts of statements. `by`: the order. `follows`: the condition of the rows behind a position."""

    by: LiteralString
    follows: LiteralString
    columns: LiteralString

    def first(self, limit: LiteralString) -> LiteralString:
        """Return the statement for the first rows: those of each state by its index, and of them the first."""
        return f"""
            SELECT activity.* FROM unnest(%(states)s::smallint[]) AS wanted (code) CROSS JOIN LATERAL (
                SELECT * FROM device_activity WHERE state = wanted.code AND {self.follows}
                ORDER BY {self.by} LIMIT {limit}
            ) AS activity ORDER BY {self.by} LIMIT {limit}
        """  # noqa: S608  # constants

    def page(self, first: LiteralString, condition: LiteralString = "true") -> LiteralString:
        """Return the statement for the rows of devices."""
        return f"""
            SELECT {self.columns} FROM ({first}) AS activity JOIN devices ON devices.id = device_id
            WHERE {condition} ORDER BY {self.by} LIMIT %(limit)s
        """  # noqa: S608  # constants

    def searched(self, condition: LiteralString) -> LiteralString:
        """Return the statement for the rows of devices that match. They are found before they are sorted."""
        return f"""
            WITH devices AS MATERIALIZED (SELECT id, key, name, created_at FROM devices WHERE {condition})
            SELECT {self.columns} FROM devices JOIN device_activity ON device_id = devices.id
            WHERE state = ANY(%(states)s::smallint[]) AND {self.follows}
            ORDER BY {self.by} LIMIT %(limit)s
        """  # noqa: S608  # constants


async def find_ordered(connection: Connection, listed: Ordered, after: ById | None, limit: int) -> list[OrderedRow]:
    """Return the first devices of the list behind the position `after`, at most `limit`."""
    parts = listed.parts(is_first=after is None)
    parameters: dict[str, object] = {
        "states": [state.code for state in listed.states],
        "search": listed.search,
        "limit": limit,
        "walked": max(READ_FIRST, READ_FIRST_OF_PAGE * limit),
        "value": after and after.value,
        "id": after and after.id,
    }
    if listed.search is None:
        return await _rows(connection, parts.page(parts.first("%(limit)s")), parameters)
    found = await _rows(connection, parts.page(parts.first("%(walked)s"), MATCHES), parameters)
    if len(found) == limit:
        return found
    return await _rows(connection, parts.searched(await condition(connection, listed.search)), parameters)


async def _rows(connection: Connection, statement: LiteralString, parameters: Mapping[str, object]) -> list[OrderedRow]:
    async with connection.cursor(row_factory=class_row(OrderedRow)) as cursor:
        await cursor.execute(statement, parameters, prepare=False)
        return await fetched(cursor)
