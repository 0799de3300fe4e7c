"""What the worker keeps in order besides the queue: the months of readings that are about to begin."""

from shared.database import Connection

MONTHS_AHEAD = 3

_MAKE_MONTHS = """
    SELECT ensure_readings_partition(date_trunc('month', now(), 'UTC') + make_interval(months => ahead))
    FROM generate_series(0, %s) AS ahead
"""


async def make_partitions(connection: Connection) -> None:
    """Makes the partitions of this month and the next ones, where they are missing."""
    await connection.execute(_MAKE_MONTHS, (MONTHS_AHEAD,))
