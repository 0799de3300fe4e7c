"""Cleaner of finished analysis requests, with results and callbacks: deletes them at the age of RESULTS_KEEP.

A request that is queued or running, or has a pending callback, is not deleted. The request of a schedule's latest tick
is kept as long as the schedule, so a monthly schedule has its latest result even if RESULTS_KEEP is a week.
"""

from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, delete
from shared.settings import Settings

# Foreign keys delete the results and callbacks, and set the request of a tick to null.
_DELETE = """
    DELETE FROM analysis_requests WHERE id IN (
        SELECT id FROM analysis_requests AS request
        WHERE finished_at < now() - %(age)s
          AND NOT EXISTS (SELECT FROM analysis_callbacks WHERE request_id = request.id AND status = 'waiting')
          AND NOT EXISTS (SELECT FROM analysis_ticks JOIN analysis_schedules AS schedule ON schedule.id = schedule_id
                          WHERE request_id = request.id AND tick = last_tick)
        ORDER BY finished_at
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED)
"""
delete_some = partial(delete, statement=_DELETE)


def cleaner(settings: Settings) -> Cleaner | None:
    """Return the cleaner, or None if RESULTS_KEEP is none."""
    age = settings.results_keep
    return None if age is None else Cleaner("analysis_requests", partial(delete_some, age=age))
