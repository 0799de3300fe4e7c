"""Cleaner of sessions: deletes those that have expired, and those without a request for a day (ADR 45).

Sessions of a revoked key are refused at once, and deleted at their own expiry.
"""

from functools import partial

from query_api.access.sessions import IDLE
from query_api.worker.cleaning.rounds import Cleaner, delete
from shared.settings import Settings

_DELETE = """
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions WHERE expires_at < now() OR last_used_at < now() - %(idle)s
        ORDER BY id LIMIT %(limit)s)
"""
delete_some = partial(delete, statement=_DELETE, idle=IDLE)


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("sessions", delete_some)
