"""Data for `http`: devices, each with a thousand readings before the measurement."""

import psycopg

from tests.benchmarks import servers

DEVICES = range(1, 101)
"""Devices, which are registered before the benchmarks."""
READINGS = 1_000
"""Readings of each device, a minute apart."""

_EMPTY = "TRUNCATE plain_devices, plain_stats RESTART IDENTITY"
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device, now() - n * interval '1 minute', now(), random(), random(), random()
    FROM generate_series(%s::int, %s) AS device, generate_series(1, %s) AS n
"""
_FILL_DEVICES = "INSERT INTO plain_devices (name) SELECT name FROM devices WHERE id BETWEEN %s AND %s"
_FILL_STATS = """
    INSERT INTO plain_stats (device_id, x, y, z, timestamp)
    SELECT device_id, x, y, z, recorded_at FROM readings ORDER BY recorded_at, device_id
"""
_MONTHS = "SELECT ensure_readings_partition(now()), ensure_readings_partition(now() - interval '1 day')"


def fill(database: psycopg.Connection) -> None:
    """Insert the same readings for both services."""
    servers.clear(database)
    database.execute(_EMPTY)
    database.execute(_MONTHS)
    database.execute(_FILL, (DEVICES[0], DEVICES[-1], READINGS))
    database.execute("SELECT find_device_extents()")
    database.execute(_FILL_DEVICES, (DEVICES[0], DEVICES[-1]))
    database.execute(_FILL_STATS)
    database.execute("VACUUM ANALYZE")
    database.execute("CHECKPOINT")
