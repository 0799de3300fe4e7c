"""Cleaner of ticks: deletes them at the age of RESULTS_KEEP, except the latest tick of each schedule."""

from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, delete
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
delete_some = partial(delete, statement=_DELETE)


def cleaner(settings: Settings) -> Cleaner | None:
    """Return the cleaner, or None if RESULTS_KEEP is none."""
    age = settings.results_keep
    return None if age is None else Cleaner("analysis_ticks", partial(delete_some, age=age))
