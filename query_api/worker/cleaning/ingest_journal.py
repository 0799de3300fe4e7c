"""Cleaner of journals: deletes those of sessions without a stored message for 90 days, which the broker has ended.

The journal of a session in use is bounded by its ingestor (ADR 3).
"""

from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, expire
from shared.settings import Settings

_EXPIRE = "SELECT expire_journals(%(limit)s)"
delete_some = partial(expire, statement=_EXPIRE)


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("ingest_journal", delete_some)
