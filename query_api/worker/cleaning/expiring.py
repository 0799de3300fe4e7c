"""Cleaners of tables whose rows the worker's role may not delete: a function of the database deletes them.

- Access keys are deleted 400 days after they were revoked or expired.
- Entries of the audit log are deleted at the age of AUDIT_KEEP, and an entry records their number. The function refuses
  ages below 30 days.
- Journals are deleted after 90 days without a stored message: the broker has ended their session. The ingestor itself
  bounds the journal of a session in use (ADR 3).
- Topic filters of a session are deleted once its journal is.
"""

from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, expire
from shared.settings import Settings

expire_keys = partial(expire, statement="SELECT expire_access_keys(%(limit)s)")
expire_audit_log = partial(expire, statement="SELECT expire_audit_entries(%(age)s, %(limit)s)")
expire_journals = partial(expire, statement="SELECT expire_journals(%(limit)s)")
expire_topic_filters = partial(expire, statement="SELECT expire_subscriptions(%(limit)s)")


def keys_cleaner(_: Settings) -> Cleaner:
    """Return the cleaner of access keys."""
    return Cleaner("access_keys", expire_keys)


def audit_cleaner(settings: Settings) -> Cleaner | None:
    """Return the cleaner of the audit log, or None if AUDIT_KEEP is none."""
    age = settings.audit_keep
    return None if age is None else Cleaner("audit_log", partial(expire_audit_log, age=age))


def journals_cleaner(_: Settings) -> Cleaner:
    """Return the cleaner of journals."""
    return Cleaner("ingest_journal", expire_journals)


def topic_filters_cleaner(_: Settings) -> Cleaner:
    """Return the cleaner of topic filters."""
    return Cleaner("ingest_subscriptions", expire_topic_filters)
