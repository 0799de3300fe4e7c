"""DuckDB and ClickHouse (chdb) in this process, with the readings of one device in a table that has nothing else.

Neither is durable here, nor shared with writers: both are the fastest that a column store can be asked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

THREADS = 2
_FIGURES = "count(*), " + ", ".join(f"min({axis}), max({axis}), sum({axis}), MEDIAN({axis})" for axis in "xyz")
_DUCKDB = f"SELECT {_FIGURES} FROM readings"  # noqa: S608  # constants
_CLICKHOUSE = f"SELECT {_FIGURES} FROM bench.readings".replace("MEDIAN", "quantileExactInclusive(0.5)")  # noqa: S608
_MISSING = "DuckDB and chdb are missing: run `make bench`, or install requirements-bench.lock"


class ColumnStores:
    """The five figures of three axes, from both."""

    def __init__(self, duckdb: Any, clickhouse: Any) -> None:
        self._duckdb = duckdb
        self._clickhouse = clickhouse

    def duckdb(self) -> tuple[float, ...]:
        """Return the count, and of each axis minimum, maximum, sum and median."""
        return tuple(self._duckdb.execute(_DUCKDB).fetchone())

    def clickhouse(self) -> tuple[float, ...]:
        """Return the same."""
        return tuple(float(cell) for cell in str(self._clickhouse.query(_CLICKHOUSE, "CSV")).strip().split(","))


@contextmanager
def column_stores(readings: pd.DataFrame) -> Iterator[ColumnStores]:
    """Load the readings into both. Columns: t in microseconds, x, y, z."""
    try:
        import duckdb
        from chdb import session
    except ImportError as error:
        raise SystemExit(_MISSING) from error
    clickhouse = session.Session()
    with duckdb.connect(config={"threads": THREADS}) as database:
        database.execute("CREATE TABLE readings AS SELECT * FROM readings ORDER BY t")
        clickhouse.query("CREATE DATABASE bench")
        clickhouse.query(
            "CREATE TABLE bench.readings (t Int64, x Float64, y Float64, z Float64) ENGINE = MergeTree ORDER BY t"
        )
        clickhouse.query("INSERT INTO bench.readings SELECT * FROM Python(readings)")
        clickhouse.query(f"SET max_threads = {THREADS}")
        try:
            yield ColumnStores(database, clickhouse)
        finally:
            clickhouse.close()
