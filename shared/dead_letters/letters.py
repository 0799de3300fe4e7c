"""Dead letters in the database: list, count, read, delete."""

from array import array
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg.rows import class_row

from shared.dead_letters.selection import Selection, parameters, where
from shared.event_loop.parts import AT_ONCE_SLOW, fetched
from shared.postgres.connections import Connection

Place = tuple[datetime, int]
"""Position of a dead letter in the order of time: its time of receipt, and its id."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A row of dead_letters. `received_until`: not None if the row counts messages without payload.

    `payload`: the payload, or its beginning. `kept`: the length of the payload in the row.
    """

    id: int
    received_at: datetime
    received_until: datetime | None = None
    topic: str
    content_type: str | None
    payload: bytes = b""
    payload_bytes: int
    kept: int = 0
    reason: str
    detail: str
    messages: int = 1
    readings: int = 1
    reasons: Mapping[str, int]
    faults: Sequence[Mapping[str, Any]] = ()
    refused: bytes | None = None

    @property
    def missing(self) -> str | None:
        """Why it cannot be replayed: the part that was not kept. None if it is complete."""
        return missing(self.received_until is not None, self.messages, self.kept, self.payload_bytes)


def missing(counts_messages: bool, messages: int, kept: int, payload_bytes: int) -> str | None:
    """Describe the part of a dead letter that was not kept; None if it is complete."""
    if counts_messages:
        return f"it counts {messages:,} messages, whose payloads were not kept"
    if kept < payload_bytes:
        return f"of its {payload_bytes:,} bytes only the first {kept:,} were kept"
    return None


class Count(msgspec.Struct, frozen=True):
    """Numbers of dead letters and of their refused readings, the highest id, and the first and last time of receipt."""

    letters: int
    readings: int
    newest_id: int | None
    first_received_at: datetime | None
    last_received_at: datetime | None


_COUNT = """
    SELECT count(*) AS letters, coalesce(sum(readings), 0)::bigint AS readings, max(id) AS newest_id,
           min(received_at) AS first_received_at, max(received_at) AS last_received_at
    FROM dead_letters
"""


async def count(connection: Connection, selection: Selection) -> Count:
    """Count them."""
    async with connection.cursor(row_factory=class_row(Count)) as cursor:
        row = await (await cursor.execute(_COUNT + where(selection), parameters(selection))).fetchone()
    assert row is not None
    return row


_LISTED = """
    SELECT id, received_at, received_until, topic, content_type, substr(payload, 1, %(preview)s) AS payload,
           payload_bytes, octet_length(payload) AS kept, reason, detail, messages, readings, reasons
    FROM dead_letters
"""
_BEFORE = " AND (received_at, id) < (%(received_at)s, %(id)s)"
_NEWEST_FIRST = " ORDER BY received_at DESC, id DESC LIMIT %(limit)s"


async def newest(
    connection: Connection, selection: Selection, limit: int, *, before: Place | None = None, preview: int = 0
) -> list[Letter]:
    """Return dead letters before the place, newest first, each with the first `preview` bytes of its payload."""
    query = _LISTED + where(selection) + ("" if before is None else _BEFORE) + _NEWEST_FIRST
    received_at, letter_id = before or (None, None)
    values = {"limit": limit, "preview": preview, "received_at": received_at, "id": letter_id}
    async with connection.cursor(row_factory=class_row(Letter)) as cursor:
        await cursor.execute(query, {**parameters(selection), **values})
        return await fetched(cursor, AT_ONCE_SLOW)


_ONE = """
    SELECT id, received_at, received_until, topic, content_type, payload, payload_bytes, octet_length(payload) AS kept,
           reason, detail, messages, readings, reasons, faults, refused
    FROM dead_letters WHERE id = %s
"""


async def one(connection: Connection, letter_id: int) -> Letter | None:
    """Return the dead letter with the id; None if there is none."""
    async with connection.cursor(row_factory=class_row(Letter)) as cursor:
        await cursor.execute(_ONE, [letter_id])
        return await cursor.fetchone()


async def purge(connection: Connection, selection: Selection, most: int | None = None) -> int:
    """Delete them, or the `most` oldest of them; return how many. `up_to` of the selection excludes later ones."""
    chosen = "SELECT id FROM dead_letters" + where(selection) + " ORDER BY id LIMIT %(most)s"  # noqa: S608  # constants
    statement = "DELETE FROM dead_letters WHERE id IN (" + chosen + ")"  # noqa: S608  # as above
    return (await connection.execute(statement, {**parameters(selection), "most": most})).rowcount


async def numbers(connection: Connection, selection: Selection, limit: int | None = None) -> "array[int]":
    """Return their ids, oldest first, as an array of eight bytes each."""
    query = "SELECT id FROM dead_letters" + where(selection) + " ORDER BY id LIMIT %(limit)s"  # noqa: S608  # as above
    found = array("q")
    async with connection.cursor() as cursor:
        async for (number,) in cursor.stream(query, {**parameters(selection), "limit": limit}):
            found.append(number)
    return found
