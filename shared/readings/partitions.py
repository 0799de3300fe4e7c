"""Prerequisites for storing a reading: the partition of its month, and an extent of its device that covers the month.

Both are created when they are first needed, and cached, so that a batch of known devices in known months needs no
query.
"""

import asyncio
from collections.abc import Iterable, Sequence, Set
from datetime import datetime
from functools import lru_cache
from weakref import WeakSet

from psycopg.errors import CheckViolation

from shared.postgres.connections import Connection
from shared.readings.extents import Month, month_of, start_of, widen
from shared.readings.model import DAY, Reading, to_datetime, to_microseconds
from shared.readings.rows import Rows

AT_ONCE = 12
"""Months that one statement creates. Its lock keeps other processes from creating months for 30 ms."""
_NONE = range(0)


class Partitions:
    """Creates the months that readings need, and widens the extents of their devices."""

    def __init__(self) -> None:
        self._connections = WeakSet[Connection]()
        self._known: dict[int, range] = {}  # by device: times with a partition and an extent
        self._extents: dict[int, tuple[Month, Month]] = {}
        self._made: set[Month] = set()
        self._runs: dict[tuple[Month, Month], range] = {}

    async def ensure(self, connection: Connection, readings: Iterable[Reading]) -> Set[int]:
        """Create the prerequisites that are not in the cache. Return the devices that do not exist.

        Call it before the transaction of the readings, or in it. The returned devices have no extent, so a reading of
        one that was registered meanwhile must not be stored. A new connection may see another state of the database,
        as after a failover, so it clears the cache.
        """
        if connection not in self._connections:
            self.forget()
            self._connections.add(connection)
        missing = self._missing(readings)
        if missing:
            months = {(device_id, _month_of_day(day)) for device_id, day in missing}
            await asyncio.sleep(0)  # each part of this takes milliseconds if the devices are many
            await self._make(connection, {month for _, month in months} - self._made)
            await self._widen(connection, _spans(months))
            self._remember(months)
        return {device_id for device_id, _ in missing if device_id not in self._extents}

    def _missing(self, readings: Iterable[Reading]) -> set[tuple[int, int]]:
        """Return the devices and days without a cached partition or extent."""
        known = self._known
        if not isinstance(readings, Rows):
            return {
                (r.device_id, r.recorded_at // DAY)
                for r in readings
                if r.recorded_at not in known.get(r.device_id, _NONE)
            }
        if all(
            first in (moments := known.get(device_id, _NONE)) and last in moments
            for device_id, first, last in readings.runs()
        ):
            return set()
        return {(device_id, day) for device_id, day in readings.days() if day * DAY not in known.get(device_id, _NONE)}

    async def _make(self, connection: Connection, months: set[Month]) -> None:
        ordered = sorted(months)
        for some in (ordered[at : at + AT_ONCE] for at in range(0, len(ordered), AT_ONCE)):
            await connection.execute(_MAKE, ([start_of(month) for month in some],))
            self._made.update(some)

    async def _widen(self, connection: Connection, asked: dict[int, tuple[Month, Month]]) -> None:
        wanting = {}
        for device_id, (first, last) in asked.items():
            had = self._extents.get(device_id, (first, last))
            both = min(first, had[0]), max(last, had[1])
            if self._extents.get(device_id) != both:
                wanting[device_id] = both
        if wanting:
            there = await widen(connection, wanting)
            self._extents.update((device_id, months) for device_id, months in wanting.items() if device_id in there)

    def _remember(self, months: Iterable[tuple[int, Month]]) -> None:
        for device_id, month in months:
            extent = self._extents.get(device_id)
            if extent is not None:
                self._known[device_id] = self._run(month, *extent)

    def _run(self, month: Month, first: Month, last: Month) -> range:
        """Return the times of the longest run of months around this one that exist and are in the extent."""
        begin = end = month
        while begin > first and begin - 1 in self._made:
            begin -= 1
        while end < last and end + 1 in self._made:
            end += 1
        run = range(to_microseconds(start_of(begin)), to_microseconds(start_of(end + 1)))
        return self._runs.setdefault((begin, end), run)  # devices share the object

    def forget(self) -> None:
        """Clear the cache. Needed when a partition is missing, for example because it was dropped."""
        self._known.clear()
        self._extents.clear()
        self._made.clear()


def is_month_missing(error: Exception) -> bool:
    """Return whether a reading has no partition. PostgreSQL reports that as a check violation without a name."""
    return isinstance(error, CheckViolation) and error.diag.constraint_name is None


async def missing_months(connection: Connection, readings: Iterable[Reading]) -> Sequence[datetime]:
    """Return the starts of the readings' months (UTC) that have no partition."""
    days = {day for _, day in Rows.of(readings).days()}
    starts = sorted({start_of(_month_of_day(day)) for day in days})
    return [start for (start,) in await (await connection.execute(_MISSING, (starts,))).fetchall()]


async def make_months(connection: Connection, starts: Sequence[datetime]) -> None:
    """Create the months, in a transaction of their own."""
    await connection.execute(_MAKE, (list(starts),))


_MISSING = """
    SELECT month FROM unnest(%s::timestamptz[]) AS month
    WHERE to_regclass('readings_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM')) IS NULL
"""
_MAKE = "SELECT ensure_readings_partition(month) FROM unnest(%s::timestamptz[]) AS month"


@lru_cache(maxsize=10_000)
def _month_of_day(day: int) -> Month:
    return month_of(to_datetime(day * DAY))


def _spans(months: Iterable[tuple[int, Month]]) -> dict[int, tuple[Month, Month]]:
    """Return the first and the last month of each device."""
    spans: dict[int, tuple[Month, Month]] = {}
    for device_id, month in months:
        first, last = spans.get(device_id, (month, month))
        spans[device_id] = min(first, month), max(last, month)
    return spans
