"""The one place that keeps what was refused."""

from collections.abc import Iterable

from shared.database import Connection
from shared.models import DeadLetter, to_datetime
from shared.storable import storable

_COPY = "COPY dead_letters (received_at, topic, content_type, payload, reason, detail) FROM STDIN"


async def add(connection: Connection, letters: Iterable[DeadLetter]) -> None:
    """Keeps the dead letters, in the transaction that the caller has open. What `text` cannot hold is escaped."""
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for letter in letters:
            await copy.write_row(
                (
                    to_datetime(letter.received_at),
                    storable(letter.topic),
                    None if letter.content_type is None else storable(letter.content_type),
                    letter.payload,
                    letter.reason.value,
                    storable(letter.detail),
                )
            )
