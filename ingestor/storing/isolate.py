"""Isolation of rows that the database refuses, so that the rest of the batch is stored (ADR 5).

Values are validated earlier. A row that the database still refuses, a reading or a dead letter, is found by halving: a
half that fails is rolled back to its savepoint and halved again, so one bad row among n costs O(log n) round trips.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from ingestor.payload.refusals import RefusedRow
from shared.postgres.connections import Connection
from shared.postgres.errors import ROW_FAULTS
from shared.postgres.storable import ascii_only
from shared.readings import dead_letters
from shared.readings.announcements import Announcements
from shared.readings.model import DeadLetter, ElementFault, Reading
from shared.readings.rows import Rows
from shared.readings.store import Stored, clear, store, store_unstaged


async def store_isolating(
    connection: Connection, readings: Sequence[Reading], announcements: Announcements | None
) -> tuple[Stored, list[RefusedRow]]:
    """Store all readings that the database does not refuse, in the caller's transaction.

    `announcements`: None to store them without a temporary table, which takes longer.
    """
    if not readings:
        return Stored(0, 0), []
    if announcements is not None and announcements.late(Rows.of(readings).columns()) is not None:
        announcements = None  # of all halves: the late ones are stored as another role, which Citus refuses to mix
    return await _isolating(connection, readings, announcements, 0)


async def _isolating(
    connection: Connection, readings: Sequence[Reading], announcements: Announcements | None, offset: int
) -> tuple[Stored, list[RefusedRow]]:
    try:
        async with connection.transaction():
            if announcements is None:
                return await store_unstaged(connection, readings), []
            stored = await store(connection, readings, announcements)
            await clear(connection)
            return stored, []
    except ROW_FAULTS as error:
        if len(readings) == 1:
            return Stored(0, 0), [RefusedRow(offset, str(error).strip())]
    middle = len(readings) // 2
    first, refused = await _isolating(connection, readings[:middle], announcements, offset)
    second, more = await _isolating(connection, readings[middle:], announcements, offset + middle)
    return Stored(first.stored + second.stored, first.duplicates + second.duplicates), refused + more


async def keep_isolating(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Store the dead letters, in the caller's transaction.

    A dead letter that the database refuses is stored with its texts in ASCII, or else also without its payload. Raises
    the database's error if it refuses even that.
    """
    try:
        async with connection.transaction():
            await dead_letters.add(connection, letters)
    except ROW_FAULTS as error:
        if len(letters) == 1:
            await _keep_reduced(connection, letters[0], str(error).strip())
        else:
            middle = len(letters) // 2
            await keep_isolating(connection, letters[:middle])
            await keep_isolating(connection, letters[middle:])


async def _keep_reduced(connection: Connection, letter: DeadLetter, refusal: str) -> None:
    detail = ascii_only(f"{letter.detail} (the database refused the dead letter: {refusal})")
    content_type = None if letter.content_type is None else ascii_only(letter.content_type)
    faults = [ElementFault(None, letter.reason, detail)]
    plain = replace(letter, topic=ascii_only(letter.topic), content_type=content_type, faults=faults)
    try:
        async with connection.transaction():
            await dead_letters.add(connection, [plain])
    except ROW_FAULTS:
        without = ElementFault(None, letter.reason, f"{detail} (without its payload of {len(letter.payload)} bytes)")
        await dead_letters.add(connection, [replace(plain, payload=b"", faults=[without])])
