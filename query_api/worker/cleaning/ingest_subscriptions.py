"""Cleaner of topic filters: deletes those of sessions whose journal has expired."""

from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, expire
from shared.settings import Settings

_EXPIRE = "SELECT expire_subscriptions(%(limit)s)"
delete_some = partial(expire, statement=_EXPIRE)


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("ingest_subscriptions", delete_some)
