"""PostgreSQL settings that every connection sets for itself.

The server, the database, the role, PG* variables of the environment and the URL may each set a default. Some of these
change the text form of values (`datestyle`), their precision (`extra_float_digits`), the plans or the time limits of
statements. The code depends on the values below. Only a SET after connecting overrides all those defaults, and only a
SET passes through PgBouncer.

Other settings remain the operator's: `search_path`, `role`, `default_transaction_read_only`, tablespaces, memory,
costs.
"""

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection
from psycopg.errors import QueryCanceled

from shared.errors import DatabaseError

ENCODING = "UTF8"
_TEXT_FORM: Mapping[str, str] = {
    "client_encoding": ENCODING,
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",  # the shortest text that is exact
    "bytea_output": "hex",
    "lc_numeric": "C",
    "lc_time": "C",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "client_min_messages": "notice",
}
# default_transaction_isolation: a statement that waited for another transaction must see its committed rows.
_TRANSACTIONS: Mapping[str, str] = {
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "row_security": "on",
    "exit_on_error": "off",
}
_TIME_LIMITS: Mapping[str, str] = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}
# jit compiles code for each month in a plan, which takes longer than most reads.
_PLANNER: Mapping[str, str] = {
    "jit": "off",
    "plan_cache_mode": "auto",
    "constraint_exclusion": "partition",
    "from_collapse_limit": "8",
    "join_collapse_limit": "8",
    "cursor_tuple_fraction": "0.1",
    "geqo": "on",
    "force_parallel_mode": "off",
    "debug_parallel_query": "off",
    **{
        f"enable_{node}": "on"
        for node in (
            "bitmapscan", "gathermerge", "hashagg", "hashjoin", "incremental_sort", "indexonlyscan", "indexscan",
            "material", "memoize", "mergejoin", "nestloop", "parallel_append", "parallel_hash", "partition_pruning",
            "seqscan", "sort", "tidscan",
        )
    },
    "enable_partitionwise_aggregate": "off",
    "enable_partitionwise_join": "off",
}  # fmt: skip
# all_modifications_commutative: by default, of two INSERT … SELECT into one shard, one waits for the end of the other.
# A unique index excludes equal rows in any case, as each shard has one placement.
_CITUS: Mapping[str, str] = {
    "citus.all_modifications_commutative": "on",
    "citus.coordinator_aggregation_strategy": "row-gather",
}
CACHED_NODES: Mapping[str, str] = {"citus.max_cached_conns_per_worker": "32"}
"""For connections that store readings. A batch needs a connection for each shard; by default Citus keeps one a node."""
TRIES = 3
"""Attempts to set the values: the database's own statement_timeout still applies to that statement."""
PINNED: Mapping[str, str] = {**_TEXT_FORM, **_TRANSACTIONS, **_TIME_LIMITS, **_PLANNER, **_CITUS}
"""Settings of every connection, by name. Settings that the server does not have are skipped."""

# synchronous_commit: acknowledged readings must survive a crash, which every value but off guarantees.
_PIN = """
    SELECT count(pg_catalog.set_config(name, value, false))
    FROM (
        SELECT name, value FROM unnest(%s::text[], %s::text[]) AS pinned (name, value)
        UNION ALL
        SELECT 'synchronous_commit', 'on' WHERE pg_catalog.current_setting('synchronous_commit') = 'off'
    ) AS pinned
    WHERE pg_catalog.current_setting(name, true) IS DISTINCT FROM value
      AND pg_catalog.current_setting(name, true) IS NOT NULL
"""


async def pin(connection: AsyncConnection[Any], statement_timeout_s: int = 0, more: Mapping[str, str] = PINNED) -> None:
    """Set PINNED and `more` on the connection. Raises psycopg.Error.

    `statement_timeout_s`: the server cancels a statement that takes longer (QueryCanceled); 0: no limit.
    """
    values = {**PINNED, **more, "statement_timeout": f"{statement_timeout_s}s" if statement_timeout_s else "0"}
    for left in reversed(range(TRIES)):
        try:
            await connection.execute(_PIN, (list(values), list(values.values())))
        except QueryCanceled:
            if not left:
                raise
        else:
            return


def check_encoding(connection: AsyncConnection[Any], address: str) -> None:
    """Raise DatabaseError unless the database's encoding is UTF-8, which can store any text."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != ENCODING:
        raise DatabaseError(
            f"the database {address} has the encoding {encoding}, which cannot store every topic and name: "
            f"create it with ENCODING '{ENCODING}' TEMPLATE template0"
        )
