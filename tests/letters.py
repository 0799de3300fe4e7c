"""Dead letters for the tests."""

from collections.abc import Iterable
from datetime import UTC, datetime

import psycopg

from shared.postgres.connections import connect
from shared.readings import dead_letters
from shared.readings.model import DeadLetter, ElementFault, Reason, to_microseconds

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def letter(
    topic: str, payload: bytes, reason: Reason = Reason.UNKNOWN_DEVICE, detail: str = "", received_at: datetime = NOON
) -> DeadLetter:
    """Return a dead letter, by default received at noon."""
    return DeadLetter(
        received_at=to_microseconds(received_at),
        step=1,
        topic=topic,
        content_type=None,
        payload=payload,
        payload_bytes=len(payload),
        reasons={reason: 1},
        faults=[ElementFault(None, reason, detail)],
    )


FOUR = (
    letter("devices/1/stats", b'{"x": 1}', Reason.INVALID_READING, "y is missing", NOON.replace(hour=10)),
    letter("devices/2/stats", b"\x83\xa1x\x01", Reason.MALFORMED, "cut", NOON.replace(hour=11)),
    letter("devices/1/stats", b'{"x": 5000, "y": 0, "z": 0}', Reason.OUT_OF_RANGE, "x is 5000"),
    letter("devices/\x1b[2J/stats", b"{}", Reason.UNKNOWN_DEVICE, "no such device", NOON.replace(hour=13)),
)
"""Dead letters an hour apart; their ids are 1 to 4."""


async def keep(url: str, letters: Iterable[DeadLetter]) -> str:
    """Store the dead letters in the database; return its URL."""
    async with await connect(url, "test") as connection:
        await dead_letters.add(connection, letters)
    return url


def left(url: str) -> list[int]:
    """Return the ids of the dead letters."""
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM dead_letters ORDER BY id")]
