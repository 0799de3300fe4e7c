"""Cleaner of deletion marks: deletes them 30 days after the last row of their device was removed, the oldest first.

A writer detects by the last mark that it saw whether unseen marks were deleted (`shared/readings/deletions.py`). So
marks are deleted in the order of their numbers, and the newest mark is kept. A step therefore waits for rows that
another worker has locked.
"""

from datetime import timedelta
from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, delete
from shared.settings import Settings

KEPT = timedelta(days=30)

_DELETE = """
    DELETE FROM deleted_devices WHERE number IN (
        SELECT number FROM deleted_devices
        WHERE number < least(
            (SELECT min(number) FROM deleted_devices WHERE removed_at IS NULL OR removed_at >= now() - %(kept)s),
            (SELECT max(number) FROM deleted_devices))
        ORDER BY number
        LIMIT %(limit)s
        FOR UPDATE)
"""
delete_some = partial(delete, statement=_DELETE, kept=KEPT)


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("deleted_devices", delete_some)
