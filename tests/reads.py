"""Index entries and rows that each statement of a connection reads, by the server's statistics.

EXPLAIN shows no plan of a statement inside a function. The statistics count those too.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from psycopg import AsyncCopy, AsyncCursor

from shared.postgres.connections import Connection


class Reads(msgspec.Struct, frozen=True):
    """Reads of a statement: number of rows and index entries, and the tables with a sequential scan."""

    rows: int
    scanned: frozenset[str]


# The statistics of a transaction are sent only after its end.
_COUNTS = """
    SELECT relname, relkind = 'r', pg_stat_get_xact_numscans(oid), pg_stat_get_xact_tuples_returned(oid)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
      AND pg_stat_get_xact_numscans(oid) > 0
"""
_Counts = Mapping[str, tuple[bool, int, int]]


class Watched:
    """Reads of each statement of a connection, by its text."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.reads: dict[str, list[Reads]] = defaultdict(list)
        watched = self

        class Cursor(AsyncCursor[Any]):
            async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
                async with watched.counting(query):
                    return await super().execute(query, params, **options)

            @asynccontextmanager
            async def copy(self, statement: Any, params: Any = None, **options: Any) -> AsyncIterator[AsyncCopy]:
                async with watched.counting(statement), super().copy(statement, params, **options) as copy:
                    yield copy

        connection.cursor_factory = Cursor

    @asynccontextmanager
    async def counting(self, query: Any) -> AsyncIterator[None]:
        """Record the reads of the statement in the block."""
        async with self.connection.transaction():
            before = await self._counts()
            yield
            after = await self._counts()
        self.reads[str(query)].append(_difference(before, after))

    async def _counts(self) -> _Counts:
        cursor = AsyncCursor(self.connection)
        await cursor.execute(_COUNTS)
        return {name: (is_table, scans, rows) for name, is_table, scans, rows in await cursor.fetchall()}


def _difference(before: _Counts, after: _Counts) -> Reads:
    rows = sum(counts[2] for counts in after.values()) - sum(counts[2] for counts in before.values())
    scanned = {
        name
        for name, (is_table, scans, _) in after.items()
        if is_table and scans > before.get(name, (is_table, 0, 0))[1]
    }
    return Reads(rows, frozenset(scanned))
