"""Cleaner of the broker's outbox: keeps the newest row of each device.

A row has no maximum age: a token that was revoked while the broker was down would stay valid at the broker.
"""

from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, delete
from shared.settings import Settings

_DELETE = """
    DELETE FROM broker_outbox WHERE number IN (
        SELECT number FROM broker_outbox AS earlier
        WHERE EXISTS (SELECT FROM broker_outbox WHERE device_id = earlier.device_id AND number > earlier.number)
        ORDER BY number
        LIMIT %(limit)s)
"""
delete_some = partial(delete, statement=_DELETE)


def cleaner(_: Settings) -> Cleaner:
    """Return the cleaner."""
    return Cleaner("broker_outbox", delete_some)
