"""Replay of dead letters: each is decoded and stored like a message, in a transaction of its own.

Only the refused elements are replayed, each with its original time of receipt. So a reading without a timestamp is
stored once, even if its dead letter is replayed several times. Elements that are stored leave the dead letter in the
same transaction, so a replay can be stopped and repeated at any time. Elements that are refused again remain, with the
current reason.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import msgspec
from psycopg.rows import class_row

from ingestor.batch import Batch, Results
from ingestor.devices import Devices
from ingestor.payload.decode import decode
from ingestor.payload.measurements import Measurement, Refusal
from ingestor.payload.places import places
from ingestor.payload.refusals import Message
from ingestor.storing.isolate import store_isolating
from shared.dead_letters import bitmap
from shared.dead_letters.letters import missing
from shared.dead_letters.replaying import Bytes, Incomplete, Replayed
from shared.postgres.connections import Connection
from shared.readings import dead_letters
from shared.readings.announce import announce_all
from shared.readings.deletions import MarksMissed
from shared.readings.model import ElementFault, Microseconds, Reason, duration, to_microseconds
from shared.readings.partitions import Partitions, make_months, missing_months
from shared.readings.rules import too_old
from shared.readings.store import Stored
from shared.settings import Settings

LONG_BYTES = 64 * 1024
"""Payloads up to this size are decoded in a millisecond."""


class _MonthsMissing(Exception):
    """A month of the readings has no partition. It is created before the transaction that fills it: as another role,
    which Citus does not allow for one shard in one transaction. `starts`: of these months."""

    def __init__(self, starts: Sequence[datetime]) -> None:
        super().__init__()
        self.starts = starts


class _Letter(msgspec.Struct, frozen=True):
    received_at: datetime
    step: int
    topic: str
    content_type: str | None
    payload: bytes
    payload_bytes: int
    refused: bytes | None
    counts_messages: bool
    messages: int

    @property
    def missing(self) -> str | None:
        """Description of the missing part; None if the dead letter is complete."""
        return missing(self.counts_messages, self.messages, len(self.payload), self.payload_bytes)


_PATIENCE = "SELECT set_config('lock_timeout', %s, true)"
_FIND = """
    SELECT received_at, step, topic, content_type, payload, payload_bytes, refused,
           received_until IS NOT NULL AS counts_messages, messages
    FROM dead_letters WHERE id = %s FOR UPDATE
"""
_REMOVE = "DELETE FROM dead_letters WHERE id = %s"


class Replay:
    """Replays dead letters by id. `lock_timeout`: the time that one waits for a lock; None: without a limit."""

    def __init__(self, settings: Settings, connection: Connection, lock_timeout: str | None = None) -> None:
        self._connection = connection
        self._lock_timeout = lock_timeout
        self._filter = settings.mqtt_topic
        self._oldest_age = duration(settings.oldest_age)
        self._devices = Devices(register=settings.unknown_devices == "register")

    async def replay(self, number: int) -> Replayed | Incomplete | None:
        """Replay one dead letter. Return None if it is gone, as after another replay."""
        while True:
            try:
                return await self._replay(number)
            except _MonthsMissing as error:
                for start in error.starts:
                    async with self._connection.transaction():
                        await self._limit_waiting()
                        await make_months(self._connection, [start])

    async def _replay(self, number: int) -> Replayed | Incomplete | None:
        async with self._connection.transaction():
            await self._limit_waiting()
            letter = await self._find(number)
            if letter is None:
                return None
            if letter.missing is not None:
                return Incomplete(letter.missing)
            with suppress(MarksMissed):  # before the devices are looked up, so that those found are not deleted
                await self._devices.pass_fence(self._connection)
            batch = await self._read(letter)
            stored, refused = await store_isolating(self._connection, batch.readings, None)
            await announce_all(self._connection, batch.readings)
            left = batch.letters(refused)
            for remaining in left:
                await dead_letters.replace(self._connection, number, remaining)
            if not left:
                await self._connection.execute(_REMOVE, (number,))
        return _outcome(batch, stored, left[0].detail if left else "")

    async def _limit_waiting(self) -> None:
        """Bound the wait for locks, in a transaction."""
        if self._lock_timeout is not None:
            await self._connection.execute(_PATIENCE, (self._lock_timeout,))

    async def _find(self, number: int) -> _Letter | None:
        async with self._connection.cursor(row_factory=class_row(_Letter)) as cursor:
            return await (await cursor.execute(_FIND, (number,))).fetchone()

    async def _read(self, letter: _Letter) -> Batch:
        batch = Batch(letter.step)
        now, received_at = time.time_ns() // 1000, to_microseconds(letter.received_at)
        results = await _decoded(letter, now, self._oldest_age)
        if received_at < now - self._oldest_age:
            results = [self._without_a_time(letter, result) for result in results]
        if letter.refused is not None:
            results = _refused_before(results, letter.refused)
        message = Message(letter.topic, letter.content_type, letter.payload, received_at, len(results))
        batch.add(message, results, None, self._filter)
        if batch.unresolved:
            topics = {one.message.topic: one.key for one in batch.unresolved}
            batch.settle(await self._devices.resolve(self._connection, topics))
        if starts := await missing_months(self._connection, batch.readings):
            raise _MonthsMissing(starts)
        await Partitions().ensure(self._connection, batch.readings)  # for each letter: a month may have been dropped
        return batch

    def _without_a_time(self, letter: _Letter, result: Measurement | Refusal | None) -> Measurement | Refusal | None:
        """Refuse a reading without a timestamp whose original time of receipt is too old by now."""
        if not isinstance(result, Measurement) or result.recorded_at is not None:
            return result
        fault = too_old(f"its time of receipt, {letter.received_at.isoformat()},", self._oldest_age)
        return Refusal(Reason.BAD_TIMESTAMP, f"timestamp: {fault}")


async def _decoded(letter: _Letter, now: Microseconds, oldest_age: Microseconds) -> Results:
    """Decode the payload; a long one in a thread, so that the API serves other requests meanwhile."""
    given = (letter.payload, letter.content_type, now, oldest_age)
    return decode(*given) if len(letter.payload) <= LONG_BYTES else await asyncio.to_thread(decode, *given)


def _refused_before(results: Results, refused: bytes) -> Results:
    """Return the elements that were refused before, in their places; the others are stored already."""
    if len(results) == 1:  # the array was decoded before and is now refused as a whole, so each element is refused
        results = [*[results[0]] * 8 * len(refused), None]
    return [result if bitmap.contains(refused, index) else None for index, result in enumerate(results)]


def _outcome(batch: Batch, stored: Stored, detail: str) -> Replayed:
    refused = dict(batch.rejected)
    if by_the_database := len(batch.readings) - stored.stored - stored.duplicates:
        refused[Reason.DATABASE_REFUSED] = by_the_database
    return Replayed(stored.stored, stored.duplicates, refused, detail)


class MessageDecoder:
    """What the API needs of the ingestor (`shared.dead_letters.replaying.Decoder`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def replayer(self, connection: Connection, lock_timeout: str | None = None) -> Replay:
        """Return a replayer on the connection."""
        return Replay(self._settings, connection, lock_timeout)

    def places(
        self, payload: bytes, content_type: str | None, faults: Sequence[ElementFault]
    ) -> Sequence[Bytes | None]:
        """Return where in the payload each fault is; None for a fault that has no place in it."""
        return places(payload, content_type, faults)
