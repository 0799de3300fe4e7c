"""Cleaner of access keys: deletes them 400 days after they were revoked or expired."""

from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, expire
from shared.settings import Settings

_EXPIRE = "SELECT expire_access_keys(%(limit)s)"
delete_some = partial(expire, statement=_EXPIRE)


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("access_keys", delete_some)
