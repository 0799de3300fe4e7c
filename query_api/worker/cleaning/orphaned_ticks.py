"""Cleaner of the ticks of deleted schedules, in steps: a schedule by the minute has half a million ticks a year."""

from query_api.worker.cleaning.rounds import BATCH_ROWS, Cleaner
from shared.postgres.connections import Connection
from shared.settings import Settings

# One index search for each schedule, regardless of its number of ticks.
_DELETE = """
    WITH RECURSIVE schedule (id) AS (
        (SELECT schedule_id FROM analysis_ticks ORDER BY schedule_id LIMIT 1)
        UNION ALL
        SELECT (SELECT schedule_id FROM analysis_ticks WHERE schedule_id > schedule.id ORDER BY schedule_id LIMIT 1)
        FROM schedule WHERE schedule.id IS NOT NULL
    ), orphan AS MATERIALIZED (
        SELECT id FROM schedule WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM analysis_schedules) LIMIT 1
    )
    DELETE FROM analysis_ticks WHERE (schedule_id, tick) IN (
        SELECT schedule_id, tick FROM analysis_ticks WHERE schedule_id = (SELECT id FROM orphan)
        ORDER BY tick LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("analysis_ticks", delete_some)


async def delete_some(connection: Connection, limit: int = BATCH_ROWS) -> int:
    """Delete up to `limit` ticks of one deleted schedule. Return the number of deleted rows."""
    return (await connection.execute(_DELETE, {"limit": limit})).rowcount
