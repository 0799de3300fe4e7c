"""What devices have measured, in short: how many readings, the first and the last time, the latest one.

A count reads every one of a device's index entries: so it is exact up to COUNTED, and above it PostgreSQL's
statistics answer, as old as its last ANALYZE.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from psycopg.rows import class_row

from query_api.readings.record import StoredReading
from shared.database import Connection
from shared.extents import extent_of

COUNTED = 1_000


class InShort(msgspec.Struct, frozen=True, kw_only=True):
    """A device's readings in short."""

    count: int = 0
    is_estimate: bool = False
    first_at: datetime | None = None
    latest: StoredReading | None = None


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    device_id: int
    count: int
    first_at: datetime | None
    id: int | None
    x: float | None
    y: float | None
    z: float | None
    timestamp: datetime | None


# The extents bound each search twice: that of the device while the statement runs; that of all that were asked for when
# it is planned, which keeps the months of others out of the plan and its locks.
_SHORT = """
    SELECT device.id AS device_id, counted.count, first.recorded_at AS first_at,
           latest.id, latest.x, latest.y, latest.z, latest.recorded_at AS timestamp
    FROM unnest(%(ids)s::bigint[]) AS asked (id)
    CROSS JOIN LATERAL (
        SELECT asked.id, coalesce(starts_at, '-infinity') AS starts_at, coalesce(ends_at, 'infinity') AS ends_at
        FROM (SELECT) AS one LEFT JOIN device_extents ON device_id = asked.id
    ) AS device
    CROSS JOIN LATERAL (
        SELECT count(*) FROM (
            SELECT FROM readings
            WHERE device_id = device.id AND recorded_at >= device.starts_at AND recorded_at < device.ends_at
              AND recorded_at >= coalesce(%(first)s::timestamptz, '-infinity')
              AND recorded_at <= coalesce(%(last)s::timestamptz, 'infinity')
            LIMIT %(most)s
        ) AS few
    ) AS counted
    LEFT JOIN LATERAL (
        SELECT recorded_at FROM readings
        WHERE device_id = device.id AND recorded_at >= device.starts_at AND recorded_at < device.ends_at
          AND recorded_at >= coalesce(%(first)s::timestamptz, '-infinity')
          AND recorded_at <= coalesce(%(last)s::timestamptz, 'infinity')
        ORDER BY recorded_at LIMIT 1
    ) AS first ON true
    LEFT JOIN LATERAL (
        SELECT id, recorded_at, x, y, z FROM readings
        WHERE device_id = device.id AND recorded_at >= device.starts_at AND recorded_at < device.ends_at
          AND recorded_at >= coalesce(%(first)s::timestamptz, '-infinity')
          AND recorded_at <= coalesce(%(last)s::timestamptz, 'infinity')
        ORDER BY recorded_at DESC, x DESC, y DESC, z DESC LIMIT 1
    ) AS latest ON true
"""


async def in_short(connection: Connection, device_ids: Sequence[int]) -> Mapping[int, InShort]:
    """The readings of each device."""
    extent = await extent_of(connection, device_ids)
    parameters = {"ids": list(device_ids), "most": COUNTED + 1, "first": extent.first, "last": extent.last}
    async with connection.cursor(row_factory=class_row(_Row)) as cursor:
        await cursor.execute(_SHORT, parameters, prepare=False)
        rows = await cursor.fetchall()
    many = [row.device_id for row in rows if row.count > COUNTED]
    estimates = await _estimates(connection, many) if many else {}
    return {row.device_id: _short(row, estimates.get(row.device_id)) for row in rows}


def _short(row: _Row, estimate: int | None) -> InShort:
    latest = None if row.id is None else msgspec.convert(row, StoredReading, from_attributes=True)
    count = row.count if estimate is None else max(estimate, row.count)
    return InShort(count=count, is_estimate=estimate is not None, first_at=row.first_at, latest=latest)


# As the planner does it, month by month: a common device by its frequency, any other as one among those that are left.
_ESTIMATE = """
    WITH months AS (
        SELECT reltuples, most_common_vals::text::bigint[] AS common, most_common_freqs AS frequencies,
               CASE WHEN n_distinct < 0 THEN -n_distinct * reltuples ELSE n_distinct END AS devices
        FROM pg_inherits
             JOIN pg_class ON pg_class.oid = inhrelid
             JOIN pg_stats ON schemaname = relnamespace::regnamespace::text AND tablename = relname
                           AND attname = 'device_id'
        WHERE inhparent = 'readings'::regclass AND reltuples > 0
    )
    SELECT device.id, coalesce(sum(reltuples * coalesce(
        (SELECT frequency FROM unnest(common, frequencies) AS one (id, frequency) WHERE one.id = device.id),
        (1 - coalesce((SELECT sum(frequency) FROM unnest(frequencies) AS one (frequency)), 0))
            / greatest(devices - coalesce(cardinality(common), 0), 1)
    )), 0)
    FROM unnest(%(ids)s::bigint[]) AS device (id) LEFT JOIN months ON true
    GROUP BY device.id
"""


async def _estimates(connection: Connection, device_ids: Sequence[int]) -> dict[int, int]:
    cursor = await connection.execute(_ESTIMATE, {"ids": list(device_ids)})
    return {device_id: round(estimate) for device_id, estimate in await cursor.fetchall()}
