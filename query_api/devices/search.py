"""Find devices by a part of their name or key, by an index of trigrams (migration 0026).

The devices directly after the cursor are read first. They fill the page if the text is common, in which case the index
would find more devices than the page has. A text of one or two characters has no trigram.
"""

from typing import LiteralString

from psycopg.rows import class_row

from query_api.devices.registration import Row
from shared.event_loop.parts import fetched
from shared.postgres.connections import Connection

TRIGRAM = 3
"""Characters of the shortest text that the index finds."""
READ_FIRST = 1_000
"""Devices that are read without the index. This takes a millisecond."""
READ_FIRST_OF_PAGE = 2
"""The same, for each device of the page."""
RARE = 1_000
"""Devices up to which the index finds all that match sooner than a scan."""

_ALL = "SELECT id, key, name, created_at FROM devices WHERE id > %(after)s ORDER BY id LIMIT %(limit)s"
MATCHES: LiteralString = """
    (strpos(lower(devices.name), lower(%(search)s)) > 0 OR strpos(lower(devices.key), lower(%(search)s)) > 0)
"""
_HAS_TRIGRAMS: LiteralString = "trigrams(devices.name, devices.key) @> trigrams(%(search)s)"
_INDEXES: LiteralString = f"{_HAS_TRIGRAMS} AND {MATCHES}"
_SCANNED: LiteralString = f"""
    SELECT id, key, name, created_at FROM devices
    WHERE id > %(after)s AND id <= coalesce(%(last)s::bigint, {2**63 - 1}) AND {MATCHES}
    ORDER BY id LIMIT %(limit)s
"""  # noqa: S608  # constants
_INDEXED: LiteralString = f"""
    SELECT id, key, name, created_at FROM devices
    WHERE id > %(after)s AND {_INDEXES}
    ORDER BY id LIMIT %(limit)s
"""  # noqa: S608  # constants


async def find(connection: Connection, search: str | None, after: int, limit: int) -> list[Row]:
    """Return the devices with ids above `after` whose name or key contains the text, ignoring case, in order."""
    if search is None:
        return await rows_of(connection, _ALL, after=after, limit=limit)
    if len(search) < TRIGRAM:
        return await rows_of(connection, _SCANNED, search=search, after=after, last=None, limit=limit)
    last = await _last_to_read(connection, after, max(READ_FIRST, READ_FIRST_OF_PAGE * limit))
    found = await rows_of(connection, _SCANNED, search=search, after=after, last=last, limit=limit)
    if last is not None and len(found) < limit:
        found += await rows_of(connection, _INDEXED, search=search, after=last, limit=limit - len(found))
    return found


_CANDIDATES: LiteralString = f"SELECT FROM devices WHERE {_HAS_TRIGRAMS} LIMIT %(most)s"  # constants


async def condition(connection: Connection, search: str) -> LiteralString:
    """Return the condition by which all matching devices are found soonest: with the index if they are few."""
    if len(search) < TRIGRAM:
        return MATCHES
    parameters = {"search": search, "most": RARE + 1}
    found = await connection.execute(_CANDIDATES, parameters, prepare=False)
    return _INDEXES if found.rowcount <= RARE else MATCHES


_LAST = "SELECT id FROM devices WHERE id > %s ORDER BY id OFFSET %s LIMIT 1"


async def _last_to_read(connection: Connection, after: int, count: int) -> int | None:
    """Return the id of the last of `count` devices above `after`; None if there are fewer."""
    row = await (await connection.execute(_LAST, (after, count - 1))).fetchone()
    return None if row is None else int(row[0])


async def rows_of(connection: Connection, statement: LiteralString, **parameters: object) -> list[Row]:
    """Return the rows of the statement."""
    async with connection.cursor(row_factory=class_row(Row)) as cursor:
        await cursor.execute(statement, parameters, prepare=False)
        return await fetched(cursor)
