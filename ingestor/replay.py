"""Puts dead letters back in: through the same decoding and storing as a message, each in a transaction.

What is stored now takes its dead letter away in that transaction, so a replay can be stopped and repeated at
any moment. A reading without a timestamp keeps the time at which it was received first. What is refused
again stays, with the reason that holds today.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

import msgspec
from psycopg.rows import class_row

from ingestor.batch import Batch
from ingestor.decode import Measurement, Refusal, decode
from ingestor.devices import Devices
from ingestor.isolate import store_isolating
from ingestor.processes import ALONE
from shared import dead_letters
from shared.database import Connection
from shared.deletions import MarksMissed
from shared.live import announce_all
from shared.models import DeadLetter, Reason, duration, to_microseconds
from shared.partitions import Partitions
from shared.reading_times import too_old
from shared.readings import Stored
from shared.settings import Settings, parse_topic_filter


class Replayed(msgspec.Struct, frozen=True):
    """What became of a dead letter's readings: how many met which fate, and the first detail where some are refused."""

    stored: int
    duplicates: int
    refused: Mapping[Reason, int]
    detail: str


class _Letter(msgspec.Struct, frozen=True):
    received_at: datetime
    topic: str
    content_type: str | None
    payload: bytes


_FIND = "SELECT received_at, topic, content_type, payload FROM dead_letters WHERE id = %s FOR UPDATE"
_REMOVE = "DELETE FROM dead_letters WHERE id = %s"
_EXPLAIN = "UPDATE dead_letters SET reason = %s, detail = %s WHERE id = %s"


class Replay:
    """Replays dead letters by their numbers, on a connection that `shared.readings.prepare` has prepared."""

    def __init__(self, settings: Settings, connection: Connection) -> None:
        self._connection = connection
        self._filter = parse_topic_filter(settings.mqtt_topic)
        self._oldest_age = duration(settings.oldest_age)
        self._devices = Devices(register=settings.unknown_devices == "register")

    async def replay(self, number: int) -> Replayed | None:
        """Puts one back in. None where it is gone, as after another replay."""
        async with self._connection.transaction():
            letter = await self._find(number)
            if letter is None:
                return None
            with suppress(MarksMissed):  # before the devices are looked up: what is found is not deleted
                await self._devices.pass_fence(self._connection)
            batch = await self._read(letter)
            stored, refused = await store_isolating(self._connection, batch.readings)
            await announce_all(self._connection, batch.readings)
            left = batch.dead_letters + [batch.dead_letter(row.index, row.detail) for row in refused]
            if [kept.payload for kept in left] == [letter.payload]:
                await self._connection.execute(_EXPLAIN, (left[0].reason.value, left[0].detail, number))
            else:
                await self._connection.execute(_REMOVE, (number,))
                await dead_letters.add(self._connection, left)
        return _outcome(batch, stored, left)

    async def _find(self, number: int) -> _Letter | None:
        async with self._connection.cursor(row_factory=class_row(_Letter)) as cursor:
            return await (await cursor.execute(_FIND, (number,))).fetchone()

    async def _read(self, letter: _Letter) -> Batch:
        batch = Batch(ALONE.step)
        now, received_at = time.time_ns() // 1000, to_microseconds(letter.received_at)
        results = decode(letter.payload, letter.content_type, now, self._oldest_age)
        if received_at < now - self._oldest_age:
            results = [self._without_a_time(letter, result) for result in results]
        batch.add(letter, results, received_at, None, self._filter)
        if batch.unresolved:
            topics = {message.topic: message.key for message in batch.unresolved}
            batch.settle(await self._devices.resolve(self._connection, topics))
        # Each letter anew: a month that is known may have been dropped, or undone with its letter's transaction.
        await Partitions().ensure(self._connection, batch.readings)
        return batch

    def _without_a_time(self, letter: _Letter, result: Measurement | Refusal) -> Measurement | Refusal:
        """Refuses what has no timestamp: it has the time of its first receipt, which is too long ago by now."""
        if isinstance(result, Refusal) or result.recorded_at is not None:
            return result
        fault = too_old(f"its time of receipt, {letter.received_at.isoformat()},", self._oldest_age)
        payload = msgspec.json.encode({"x": result.x, "y": result.y, "z": result.z})
        return Refusal(payload, Reason.BAD_TIMESTAMP, f"timestamp: {fault}")


def _outcome(batch: Batch, stored: Stored, left: list[DeadLetter]) -> Replayed:
    refused = dict(batch.rejected)
    if by_the_database := len(batch.readings) - stored.stored - stored.duplicates:
        refused[Reason.DATABASE_REFUSED] = by_the_database
    return Replayed(stored.stored, stored.duplicates, refused, left[0].detail if left else "")
