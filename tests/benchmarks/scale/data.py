"""The data of `scale`: devices whose readings were written in the order of time, so that they lie apart.

A tenth of the devices has 1,100 readings each, the others a hundred, and one device a hundred thousand.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import psycopg

DEVICES = int(os.environ.get("SCALE_DEVICES", "100000"))
OFTEN = DEVICES // 10
"""The first devices, with MANY readings each. Their number is estimated."""
MANY, FEW = 1_100, 100
BIG = DEVICES + 1
"""A device with a reading after each hundredth row of another one: about eleven for each of the first devices."""
MONTHS = 24
FIRST = datetime(2024, 11, 1, tzinfo=UTC)
_WRITERS = 2

_ADD_DEVICES = (
    "INSERT INTO devices (id, key, name) SELECT n, 'scale-' || n, 'Meter ' || n FROM generate_series(1, %s) n"
)
_MAKE = "SELECT ensure_readings_partition(%s + make_interval(months => n)) FROM generate_series(0, %s - 1) AS n"
# A round of readings is every device's, or each tenth round, and of the first devices otherwise.
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT row.device, start + round * step + number * interval '10 us', now(),
           random(), 500 * sin(number + round), round %% 7
    FROM (SELECT %(first)s + make_interval(months => %(month)s) AS start,
                 (make_interval(months => 1) + interval '0') / %(rounds)s * 0.9 AS step) AS month
    CROSS JOIN generate_series(0, %(rounds)s - 1) AS round
    CROSS JOIN LATERAL generate_series(1, CASE WHEN (round + %(month)s * %(rounds)s) %% %(rarely)s = 0
                                               THEN %(devices)s ELSE %(often)s END) AS number
    CROSS JOIN LATERAL (SELECT number AS device UNION ALL SELECT %(big)s WHERE number %% 100 = 0) AS row
"""
_EXTENTS = "SELECT find_device_extents()"
_SIZES = """
    SELECT count(*), sum(pg_table_size(inhrelid)), sum(pg_indexes_size(inhrelid)), sum(reltuples)
    FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'readings'::regclass
"""


def build(url: str) -> str:
    """Build the data. Return a remark on their size."""
    began = time.monotonic()
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("DELETE FROM devices")
        database.execute(_ADD_DEVICES, (BIG,))
        database.execute(_MAKE, (FIRST, MONTHS))
        with ThreadPoolExecutor(_WRITERS) as threads:
            list(threads.map(partial(_fill, url), range(MONTHS)))
        database.execute(_EXTENTS)
        database.execute("VACUUM ANALYZE")
        database.execute("CHECKPOINT")
        return f"scale: {sizes(database)} Built in {time.monotonic() - began:.0f} s."


def _fill(url: str, month: int) -> None:
    parameters = {
        "first": FIRST, "month": month, "rounds": MANY // MONTHS, "rarely": MANY // FEW,
        "devices": DEVICES, "often": OFTEN, "big": BIG,
    }  # fmt: skip
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(_FILL, parameters)


def sizes(database: psycopg.Connection) -> str:
    """Return the number of readings, and the size of their table and its index, as a sentence."""
    row = database.execute(_SIZES).fetchone()
    assert row is not None, "an aggregate has one row"
    months, table, index, count = (float(one) for one in row)
    return (
        f"{DEVICES:,} devices, {count:,.0f} readings in {months:.0f} months, "
        f"{table / count:.0f} bytes a reading in the table and {index / count:.0f} in its index."
    )
