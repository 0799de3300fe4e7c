"""Dead letters: the refused readings of each message, and counts of messages beyond the limit per minute (ADR 26).

They are written in the transaction that stores the rest of the message, or acknowledges it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from shared.postgres.connections import Connection
from shared.postgres.storable import storable
from shared.readings.model import DeadLetter, ElementFault, Microseconds, Reason, most_frequent, to_datetime

_COPY = """
    COPY dead_letters (received_at, topic, content_type, payload, reason, detail,
                       payload_bytes, readings, reasons, faults, refused, step) FROM STDIN
"""


async def add(connection: Connection, letters: Iterable[DeadLetter]) -> None:
    """Write the dead letters, in the caller's transaction. Characters that `text` does not allow are escaped."""
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
                    letter.payload_bytes,
                    letter.readings,
                    _json(letter.reasons),
                    _faults(letter),
                    letter.refused,
                    letter.step,
                )
            )


_REPLACE = """
    UPDATE dead_letters SET payload = %(payload)s, reason = %(reason)s, detail = %(detail)s, readings = %(readings)s,
                            reasons = %(reasons)s::jsonb, faults = %(faults)s::jsonb, refused = %(refused)s
    WHERE id = %(id)s
"""


async def replace(connection: Connection, letter_id: int, letter: DeadLetter) -> None:
    """Replace the dead letter with this id by the rest that a replay refused."""
    await connection.execute(
        _REPLACE,
        {
            "id": letter_id,
            "payload": letter.payload,
            "reason": letter.reason.value,
            "detail": storable(letter.detail),
            "readings": letter.readings,
            "reasons": _json(letter.reasons),
            "faults": _faults(letter),
            "refused": letter.refused,
        },
    )


class Omitted:
    """Counts of refused messages without their own dead letter: messages, bytes, times of receipt, and reasons.

    `topic`, `detail`: values of the row with the counts. `row`: id of the row; None before it exists.
    """

    def __init__(self, topic: str, detail: str, row: int | None) -> None:
        self.topic = topic
        self.detail = detail
        self.row = row
        self.messages = 0
        self.payload_bytes = 0
        self.reasons: Counter[Reason] = Counter()
        self._first: Microseconds | None = None
        self._last: Microseconds = 0

    def add(self, letter: DeadLetter) -> None:
        """Count the message of the dead letter."""
        at = letter.received_at
        self._first = at if self._first is None else min(self._first, at)
        self._last = max(self._last, at)
        self.messages += 1
        self.payload_bytes += letter.payload_bytes
        self.reasons.update(letter.reasons)

    def parameters(self) -> dict[str, object]:
        """Return the parameters of the statements of `count`."""
        assert self._first is not None, "no message was added"
        return {
            "id": self.row,
            "first": to_datetime(self._first),
            "last": to_datetime(self._last),
            "topic": storable(self.topic),
            "detail": self.detail,
            "messages": self.messages,
            "payload_bytes": self.payload_bytes,
            "readings": self.reasons.total(),
            "reason": most_frequent(self.reasons).value,
            "reasons": _json(self.reasons),
        }


_COUNT_MORE = """
    UPDATE dead_letters SET
        received_at = least(received_at, %(first)s), received_until = greatest(received_until, %(last)s),
        messages = messages + %(messages)s, payload_bytes = payload_bytes + %(payload_bytes)s,
        readings = readings + %(readings)s, (reason, reasons) = (
            SELECT (array_agg(key ORDER BY total DESC, key))[1], jsonb_object_agg(key, total)
            FROM (
                SELECT key, sum(value::bigint) AS total FROM (
                    SELECT * FROM jsonb_each_text(reasons) UNION ALL SELECT * FROM jsonb_each_text(%(reasons)s::jsonb)
                ) AS counted
                GROUP BY key
            ) AS totals)
    WHERE id = %(id)s
"""
_COUNT_FIRST = """
    INSERT INTO dead_letters (received_at, received_until, topic, payload, reason, detail,
                              messages, payload_bytes, readings, reasons, faults)
    VALUES (%(first)s, %(last)s, %(topic)s, '', %(reason)s, %(detail)s,
            %(messages)s, %(payload_bytes)s, %(readings)s, %(reasons)s::jsonb, '[]')
    RETURNING id
"""


async def count(connection: Connection, omitted: Omitted) -> int:
    """Add the counts to their row, and return its id. The row is created if it does not exist or was deleted."""
    parameters = omitted.parameters()
    if omitted.row is not None:
        cursor = await connection.execute(_COUNT_MORE, parameters)
        if cursor.rowcount == 1:
            return omitted.row
    row = await (await connection.execute(_COUNT_FIRST, parameters)).fetchone()
    assert row is not None, "RETURNING returns the row"
    row_id: int = row[0]
    return row_id


def _faults(letter: DeadLetter) -> str:
    return _json([ElementFault(fault.index, fault.reason, storable(fault.detail)) for fault in letter.faults])


def _json(value: Mapping[Reason, int] | list[ElementFault]) -> str:
    return msgspec.json.encode(value).decode()
