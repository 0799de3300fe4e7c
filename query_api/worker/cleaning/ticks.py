"""Cleaner of ticks: deletes them at the age of RESULTS_KEEP, except the latest tick of each schedule."""

from datetime import timedelta
from functools import partial

from query_api.worker.cleaning.rounds import BATCH_ROWS, Cleaner
from shared.postgres.connections import Connection
from shared.settings import Settings

_DELETE = """
    DELETE FROM analysis_ticks WHERE (schedule_id, tick) IN (
        SELECT schedule_id, tick FROM analysis_ticks AS old
        WHERE tick < now() - %(age)s
          AND NOT EXISTS (SELECT FROM analysis_schedules WHERE id = old.schedule_id AND last_tick = old.tick)
        ORDER BY tick
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED)
"""


def cleaner(settings: Settings) -> Cleaner | None:
    """Return the cleaner, or None if RESULTS_KEEP is none."""
    age = settings.results_keep
    return None if age is None else Cleaner("analysis_ticks", partial(delete_some, age=age))


async def delete_some(connection: Connection, age: timedelta, limit: int = BATCH_ROWS) -> int:
    """Delete up to `limit` ticks older than `age`. Return the number of deleted rows."""
    return (await connection.execute(_DELETE, {"age": age, "limit": limit})).rowcount
