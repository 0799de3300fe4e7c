"""Cleaners of dead letters: by age (DEAD_LETTERS_KEEP) and by size, the oldest first (DEAD_LETTERS_MAX_BYTES, ADR 26).

The size of a dead letter is its size before compression plus 1,000 bytes (`kept_bytes`). The size of the table's files
cannot be used, as it does not shrink when rows are deleted.
"""

from datetime import datetime
from functools import partial

from query_api.worker.cleaning.rounds import Cleaner, delete
from shared.postgres.connections import Connection
from shared.settings import Settings

BATCH_ROWS = 250
"""Most rows that one step deletes. Each may have a payload of 2 MiB."""

Place = tuple[datetime, int]
"""Position of a dead letter in the order of age: its time of receipt, and its id."""


def age_cleaner(settings: Settings) -> Cleaner | None:
    """Return the cleaner by age, or None if DEAD_LETTERS_KEEP is none."""
    age = settings.dead_letters_keep
    step = partial(delete, statement=_DELETE_OLD, limit=BATCH_ROWS, age=age)
    return None if age is None else Cleaner("dead_letters", step)


def size_cleaner(settings: Settings) -> Cleaner | None:
    """Return the cleaner by size, or None if DEAD_LETTERS_MAX_BYTES is none."""
    size = settings.dead_letters_max_bytes
    return None if size is None else Cleaner("dead_letters", BySize(size).delete_some)


_DELETE_OLD = """
    DELETE FROM dead_letters WHERE id IN (
        SELECT id FROM dead_letters WHERE received_at < now() - %(age)s
        ORDER BY received_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""


_NEWEST_TO_DELETE = """
    SELECT received_at, id FROM (
        SELECT received_at, id,
               sum(kept_bytes) OVER (ORDER BY received_at DESC, id DESC ROWS UNBOUNDED PRECEDING) AS size
        FROM dead_letters
    ) AS letters
    WHERE size > %(size)s
    ORDER BY received_at DESC, id DESC
    LIMIT 1
"""


async def newest_to_delete(connection: Connection, size: int) -> Place | None:
    """Return the newest dead letter beyond `size` bytes, counted from the newest one; None if there is none."""
    return await (await connection.execute(_NEWEST_TO_DELETE, {"size": size})).fetchone()


_DELETE_UP_TO = """
    DELETE FROM dead_letters WHERE id IN (
        SELECT id FROM dead_letters WHERE (received_at, id) <= (%(received_at)s, %(id)s)
        ORDER BY received_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""


class BySize:
    """Deletes the oldest dead letters beyond a size in bytes. The size is computed once for several steps."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._newest: Place | None = None

    async def delete_some(self, connection: Connection, limit: int = BATCH_ROWS) -> int:
        """Delete up to `limit` dead letters. Return the number of deleted rows."""
        if self._newest is None:
            self._newest = await newest_to_delete(connection, self._size)
        if self._newest is None:
            return 0
        received_at, letter_id = self._newest
        deleted = await delete(connection, statement=_DELETE_UP_TO, limit=limit, received_at=received_at, id=letter_id)
        if deleted < limit:
            self._newest = None
        return deleted
