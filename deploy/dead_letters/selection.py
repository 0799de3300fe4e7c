"""Selection, display and deletion of dead letters."""

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg.rows import class_row
from rich.table import Table
from rich.text import Text

from deploy.terminal import counted, printable, shortened
from shared import bitmap
from shared.postgres.connections import Connection

HEXDUMP_WIDTH = 16
TOPIC_SHOWN = 60
DETAIL_SHOWN = 120
"""Characters of a topic in a list."""
RANGES_SHOWN = 20
"""Ranges of refused elements that are shown."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on dead letters, all of which must hold. `topic`: a topic filter."""

    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    topic: str | None = None


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A row of dead_letters. `received_until`: not None if the row counts messages without payload."""

    id: int
    received_at: datetime
    received_until: datetime | None = None
    topic: str
    content_type: str | None
    payload: bytes = b""
    payload_bytes: int
    reason: str
    detail: str
    messages: int = 1
    readings: int = 1
    reasons: Mapping[str, int]
    faults: Sequence[Mapping[str, Any]] = ()
    refused: bytes | None = None


_WHERE = """
    WHERE (%(reason)s::text IS NULL OR jsonb_exists(reasons, %(reason)s))
      AND (%(since)s::timestamptz IS NULL OR received_at >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR received_at <= %(until)s)
      AND (%(topic)s::text IS NULL OR topic ~ %(topic)s)
"""


class Count(msgspec.Struct, frozen=True):
    """Numbers of dead letters and of their refused readings, and the highest id."""

    letters: int
    readings: int
    newest_id: int | None

    def __str__(self) -> str:
        return f"{counted(self.letters, 'dead letter')} ({counted(self.readings, 'refused reading')})"


_COUNT = """
    SELECT count(*) AS letters, coalesce(sum(readings), 0)::bigint AS readings, max(id) AS newest_id FROM dead_letters
"""


async def count(connection: Connection, selection: Selection) -> Count:
    """Count them."""
    async with connection.cursor(row_factory=class_row(Count)) as cursor:
        row = await (await cursor.execute(_COUNT + _WHERE, _parameters(selection))).fetchone()
    assert row is not None
    return row


_LISTED = """
    SELECT id, received_at, received_until, topic, content_type, payload_bytes, reason, detail,
           messages, readings, reasons FROM dead_letters
"""
_NEWEST = _LISTED + _WHERE + "ORDER BY received_at DESC, id DESC LIMIT %(limit)s"


async def newest(connection: Connection, selection: Selection, limit: int) -> list[Letter]:
    """Return dead letters without their payloads, newest first."""
    async with connection.cursor(row_factory=class_row(Letter)) as cursor:
        await cursor.execute(_NEWEST, {**_parameters(selection), "limit": limit})
        return await cursor.fetchall()


_ONE = """
    SELECT id, received_at, received_until, topic, content_type, payload, payload_bytes, reason, detail,
           messages, readings, reasons, faults, refused
    FROM dead_letters WHERE id = %s
"""


async def one(connection: Connection, letter_id: int) -> Letter | None:
    """Return the dead letter with the id; None if there is none."""
    async with connection.cursor(row_factory=class_row(Letter)) as cursor:
        await cursor.execute(_ONE, [letter_id])
        return await cursor.fetchone()


_PURGE = "DELETE FROM dead_letters" + _WHERE + "AND id <= %(newest)s"  # noqa: S608  # composed of constants


async def purge(connection: Connection, selection: Selection, newest_id: int) -> int:
    """Delete dead letters up to the id, which excludes later ones; return how many."""
    cursor = await connection.execute(_PURGE, {**_parameters(selection), "newest": newest_id})
    return cursor.rowcount


_NUMBERS = "SELECT id FROM dead_letters" + _WHERE + "ORDER BY id"  # noqa: S608  # composed of constants


async def numbers(connection: Connection, selection: Selection) -> "array[int]":
    """Return their ids, oldest first, as an array of eight bytes each."""
    found = array("q")
    async with connection.cursor() as cursor:
        async for (number,) in cursor.stream(_NUMBERS, _parameters(selection)):
            found.append(number)
    return found


def _parameters(selection: Selection) -> dict[str, object]:
    topic = None if selection.topic is None else topic_pattern(selection.topic)
    return {**msgspec.structs.asdict(selection), "topic": topic}


def topic_pattern(topic_filter: str) -> str:
    """Return the topic filter as a regular expression: + is any one level, # any further levels at the end."""
    levels = topic_filter.split("/")
    rest = levels[-1] == "#"
    pattern = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels[: -1 if rest else None])
    if not rest:
        return f"^{pattern}$"
    return f"^{pattern}(/.*)?$" if pattern else "^.*$"  # MQTT-4.7.1-2: a/# includes a


def table(letters: list[Letter]) -> Table:
    """Return a table with a line for each dead letter."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "received", "reason"):
        shown.add_column(column, no_wrap=True)
    for column in ("readings", "topic", "bytes", "detail"):
        shown.add_column(column, overflow="fold")
    for letter in letters:
        fields = (
            str(letter.id),
            f"{letter.received_at:%Y-%m-%d %H:%M:%S}",
            letter.reason,
            str(letter.readings),
            shortened(letter.topic, TOPIC_SHOWN),
            str(letter.payload_bytes),
            shortened(_summary(letter), DETAIL_SHOWN),
        )
        shown.add_row(*(Text(printable(field)) for field in fields))
    return shown


def _summary(letter: Letter) -> str:
    return letter.detail if letter.received_until is None else f"{letter.messages:,} messages {letter.detail}"


def whole(letter: Letter) -> str:
    """Return one dead letter: its fields and faults, then the payload as text, or as a hexdump if it is binary."""
    head = "\n".join(f"{name:<13} {printable(value)}" for name, value in _fields(letter))
    if letter.received_until is not None:
        return head
    return f"{head}\n\n{_readable(letter.payload)}"


def _fields(letter: Letter) -> Iterator[tuple[str, str]]:
    yield "id", str(letter.id)
    yield "received", letter.received_at.isoformat()
    if letter.received_until is not None:
        yield "until", letter.received_until.isoformat()
        yield "messages", f"{letter.messages:,}"
    yield "reason", letter.reason
    yield "detail", letter.detail
    yield "readings", ", ".join(f"{count:,} {reason}" for reason, count in letter.reasons.items())
    if letter.refused is not None:
        yield "elements", _elements(letter.refused)
    for fault in letter.faults if letter.readings > 1 else ():
        where = "all" if fault["index"] is None else f"element {fault['index']}"
        yield where, f"{fault['reason']}: {fault['detail']}"
    yield "topic", letter.topic
    yield "content type", letter.content_type or "none"
    yield "payload", _length(letter)


def _length(letter: Letter) -> str:
    length = counted(letter.payload_bytes, "byte")
    if letter.received_until is not None:
        return f"{length} in total, not kept"
    if len(letter.payload) < letter.payload_bytes:
        return f"{length}, of which the first {len(letter.payload):,} were kept"
    return length


def _elements(refused: bytes) -> str:
    found = [f"{first}" if first == last else f"{first}-{last}" for first, last in bitmap.ranges(refused)]
    more = f" and {len(found) - RANGES_SHOWN:,} more ranges" if len(found) > RANGES_SHOWN else ""
    return ", ".join(found[:RANGES_SHOWN]) + more


def _readable(payload: bytes) -> str:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return hexdump(payload)
    return text if printable(text) == text else hexdump(payload)


def hexdump(data: bytes) -> str:
    """Return sixteen bytes a line: offset, hexadecimal, and printable ASCII."""
    lines = []
    for start in range(0, len(data), HEXDUMP_WIDTH):
        part = data[start : start + HEXDUMP_WIDTH]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{HEXDUMP_WIDTH * 3 - 1}}  |{text}|")
    return "\n".join(lines)
