"""One bad row never sinks its batch (ADR 5).

Values are checked before they get here; what the database still refuses is found by halving: a half that
fails is undone to its savepoint and halved again, so a bad row among n costs O(log n) round trips.
"""

from collections.abc import Sequence

import msgspec
import psycopg

from shared.database import Connection
from shared.models import Reading
from shared.readings import Stored, clear, store

ROW_FAULTS = (psycopg.DataError, psycopg.IntegrityError)
"""What PostgreSQL raises for a row's own fault; all else is the server's."""


class RefusedRow(msgspec.Struct, frozen=True):
    """A row's place in its batch, and the database's words."""

    index: int
    detail: str


async def store_isolating(
    connection: Connection, readings: Sequence[Reading], offset: int = 0
) -> tuple[Stored, list[RefusedRow]]:
    """Stores all but what the database refuses, in the transaction that the caller has open."""
    if not readings:
        return Stored(0, 0), []
    try:
        async with connection.transaction():
            stored = await store(connection, readings)
            await clear(connection)
            return stored, []
    except ROW_FAULTS as error:
        if len(readings) == 1:
            return Stored(0, 0), [RefusedRow(offset, str(error).strip())]
    middle = len(readings) // 2
    first, refused = await store_isolating(connection, readings[:middle], offset)
    second, more = await store_isolating(connection, readings[middle:], offset + middle)
    return Stored(first.stored + second.stored, first.duplicates + second.duplicates), refused + more
