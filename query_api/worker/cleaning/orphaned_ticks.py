"""Cleaner of the ticks of deleted schedules, in steps: a schedule by the minute has half a million ticks per year."""

from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, delete
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
delete_some = partial(delete, statement=_DELETE)


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("analysis_ticks", delete_some)
