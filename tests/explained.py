"""A connection that records the executed plan of each query on readings."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from psycopg import AsyncClientCursor, AsyncCopy, AsyncCursor

from shared.postgres import arrays
from shared.postgres.connections import Connection
from tests import citus

COPIED = re.compile(r"^\s*COPY \((.*)\) TO STDOUT", re.DOTALL)
_SHARD = re.compile(r"_\d{6,}$")


class Plan(msgspec.Struct, frozen=True):
    """The output of EXPLAIN (ANALYZE, BUFFERS) for a query, and the number of rows that it read from readings.

    EXPLAIN shows the mean of a scan's rows over its loops, which PostgreSQL before 18 rounds to a whole number. So
    `rows_read` comes from the server's statistics, which count each index entry and row. Those of the nodes of a Citus
    cluster are not at hand: there it is what EXPLAIN shows.
    """

    top: dict[str, Any]
    rows_read: int

    @property
    def buffers(self) -> int:
        """Pages that the query read."""
        tops = [top for node in below(self.top) for top in _of_nodes(node)] or [self.top]
        return sum(int(top["Shared Hit Blocks"] + top["Shared Read Blocks"]) for top in tops)

    @property
    def kinds(self) -> set[str]:
        """Executed nodes."""
        return {node["Node Type"] for node in below(self.top) if node["Actual Loops"]}

    @property
    def scans(self) -> list[dict[str, Any]]:
        """Executed scans of tables."""
        return [node for node in below(self.top) if "Relation Name" in node and node["Actual Loops"]]

    @property
    def tables(self) -> set[str]:
        """Scanned tables. A shard has the name of its table."""
        return {_SHARD.sub("", scan["Relation Name"]) for scan in self.scans}

    @property
    def indexes(self) -> set[str]:
        """Used indexes."""
        return {node["Index Name"] for node in below(self.top) if "Index Name" in node and node["Actual Loops"]}


def below(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the node of a plan, and all below it."""
    return [node, *(found for plan in (*node.get("Plans", []), *_of_nodes(node)) for found in below(plan))]


def _rows_shown(top: dict[str, Any]) -> int:
    scans = [node for node in below(top) if node.get("Relation Name", "").startswith("readings")]
    return sum(
        int(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))) for node in scans
    )


def _of_nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the plans of a Citus cluster's nodes for a part of the statement."""
    tasks = node.get("Distributed Query", {}).get("Job", {}).get("Tasks", [])
    return [plan[0]["Plan"] for task in tasks for plan in task["Remote Plan"]]


class Explained:
    """Plans of one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.plans: list[Plan] = []
        explained = self

        class Cursor(AsyncCursor[Any]):
            async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
                if "FROM readings" in _text(query):
                    await explained.explain(_text(query), params, AsyncCursor)
                return await super().execute(query, params, **options)

            @asynccontextmanager
            async def copy(self, statement: Any, params: Any = None, **options: Any) -> AsyncIterator[AsyncCopy]:
                found = COPIED.match(statement)
                assert found is not None
                await explained.explain(found[1], params, AsyncClientCursor)
                async with super().copy(statement, params, **options) as copy:
                    yield copy

        connection.cursor_factory = Cursor

    async def explain(self, query: str, parameters: Any, kind: type[AsyncCursor[Any]]) -> Plan:
        """Run the query, and record its plan. `kind`: class of the cursor, which binds the parameters."""
        async with self.connection.transaction(), kind(self.connection) as cursor:
            arrays.adapt(cursor.adapters)
            before = await _rows_returned(cursor)
            await AsyncCursor.execute(cursor, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}".encode(), parameters)
            row = await cursor.fetchone()
            after = await _rows_returned(cursor)
        assert row is not None
        top = row[0][0]["Plan"]
        self.plans.append(Plan(top, _rows_shown(top) if citus.WORKERS else after - before))
        return self.plans[-1]

    def taken(self) -> list[Plan]:
        """Return the plans since the last call."""
        plans, self.plans = self.plans, []
        return plans


# The statistics of this transaction are sent only after its end.
_ROWS_RETURNED = """
    SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(relid)), 0)::bigint
    FROM (SELECT relid FROM pg_partition_tree('readings') UNION ALL
          SELECT relid FROM pg_partition_tree('readings_are_unique')) AS part
"""


async def _rows_returned(cursor: AsyncCursor[Any]) -> int:
    """Return the number of rows and index entries of readings that scans of this transaction have returned."""
    await AsyncCursor.execute(cursor, _ROWS_RETURNED)
    row = await cursor.fetchone()
    assert row is not None, "an aggregate has one row"
    count: int = row[0]
    return count


def _text(query: Any) -> str:
    return query.decode() if isinstance(query, bytes) else str(query)
