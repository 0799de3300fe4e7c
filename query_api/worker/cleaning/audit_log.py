"""Cleaner of the audit log: deletes entries at the age of AUDIT_KEEP, and adds an entry with their number.

The worker's role may not delete entries. A function of the database deletes them, and refuses ages below 30
days.
"""

from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, expire
from shared.settings import Settings

_EXPIRE = "SELECT expire_audit_entries(%(age)s, %(limit)s)"
delete_some = partial(expire, statement=_EXPIRE)


def cleaner(settings: Settings) -> Cleaner | None:
    """Return the cleaner, or None if AUDIT_KEEP is none."""
    age = settings.audit_keep
    return None if age is None else Cleaner("audit_log", partial(delete_some, age=age))
