"""The extent of a device: the range of months (UTC) with all of its readings (ADR 28).

It bounds a read without a period, so that the read plans, locks and scans only the months of its device. An extent that
is too wide costs little, but one that is too narrow hides readings. So it is widened before the readings are committed
(`partitions.py`), and never narrowed. The reads of a device without an extent are not bounded.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
import numpy as np
from psycopg.rows import class_row

from shared.event_loop.parts import fetched
from shared.postgres.arrays import Bigints, Moments, adapted
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds, to_microseconds

Month = int
"""Months since January of the year 0."""


def month_of(moment: datetime) -> Month:
    """Return the month (UTC) of a time with an offset."""
    in_utc = moment.astimezone(UTC)
    return in_utc.year * 12 + in_utc.month - 1


def start_of(month: Month) -> datetime:
    """Return the start of the month."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


# An extent that is wide enough is not locked. All writers use the order of ids, so that they cannot deadlock.
_WIDEN = """
    WITH asked AS (
        SELECT asked.* FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[]) AS asked (id, starts_at, ends_at)
        WHERE EXISTS (SELECT FROM devices WHERE devices.id = asked.id)
    ), widened AS (
        INSERT INTO device_extents (device_id, starts_at, ends_at)
        SELECT * FROM asked
        WHERE NOT EXISTS (SELECT FROM device_extents AS had WHERE had.device_id = asked.id
                          AND had.starts_at <= asked.starts_at AND had.ends_at >= asked.ends_at)
        ORDER BY id
        ON CONFLICT (device_id) DO UPDATE
        SET starts_at = least(device_extents.starts_at, excluded.starts_at),
            ends_at = greatest(device_extents.ends_at, excluded.ends_at)
    )
    SELECT id FROM asked
"""


async def widen(connection: Connection, months: Mapping[int, tuple[Month, Month]]) -> set[int]:
    """Widen the extents of devices to contain the given first and last months.

    Return the devices that exist.
    """
    columns = (
        Bigints(np.array(list(months), np.int64)),
        Moments(np.array([_moment_of(first) for first, _ in months.values()], np.int64)),
        Moments(np.array([_moment_of(last + 1) for _, last in months.values()], np.int64)),
    )
    async with adapted(connection).cursor() as cursor:
        return {device_id for (device_id,) in await fetched(await cursor.execute(_WIDEN, columns))}


@lru_cache(maxsize=1_000)
def _moment_of(month: Month) -> Microseconds:
    return to_microseconds(start_of(month))


class Extent(msgspec.Struct, frozen=True):
    """The first and the last time, both included; None leaves that side open."""

    first: datetime | None
    last: datetime | None

    def within(self, start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
        """Return the part of the period from `start` to `end` that lies in the extent. Both are included.

        The result may end before it starts, in which case it contains no reading.
        """
        starts = [moment for moment in (start, self.first) if moment is not None]
        ends = [moment for moment in (end, self.last) if moment is not None]
        return max(starts, default=None), min(ends, default=None)


_EXTENTS = """
    SELECT CASE WHEN count(device_id) = count(*) THEN min(starts_at) END AS first,
           CASE WHEN count(device_id) = count(*) THEN max(ends_at) - interval '1 microsecond' END AS last
    FROM unnest(%s::bigint[]) AS asked (id) LEFT JOIN device_extents ON device_id = asked.id
"""


async def extent_of(connection: Connection, devices: Sequence[int]) -> Extent:
    """Return the extent of the devices together."""
    async with adapted(connection).cursor(row_factory=class_row(Extent)) as cursor:
        extent = await (await cursor.execute(_EXTENTS, (Bigints(np.array(devices, np.int64)),))).fetchone()
    assert extent is not None, "an aggregate has one row"
    return extent
