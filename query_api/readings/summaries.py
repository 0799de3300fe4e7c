"""Summaries of devices' readings: their count, the time of the first one, and the latest one.

A count reads every index entry of a device. So it is exact up to a bound. Above the bound it is an estimate from
PostgreSQL's statistics, scaled by the growth of the files since ANALYZE. A month that was never analysed has no
statistics: then the count is a lower bound, and marked as one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from psycopg.rows import class_row

from query_api.readings.record import StoredReading
from shared.postgres.connections import Connection
from shared.readings.extents import extent_of

COUNTED = 1_000
"""The exact count of each device reaches at least this bound, for any number of devices."""
COUNTED_IN_ALL = 100_000
"""A few devices share this bound."""


def most_counted(devices: int) -> int:
    """Return the number of readings up to which counts are exact, for this number of devices."""
    return max(COUNTED, COUNTED_IN_ALL // max(devices, 1))


class ReadingSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A summary of a device's readings."""

    count: int = 0
    is_estimate: bool = False
    at_least: bool = False
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


# The extents bound each search twice. The device's own extent bounds the execution. The extent of all the devices
# bounds the plan, which then neither contains nor locks other months.
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


class _Estimate(msgspec.Struct, frozen=True):
    """An estimate from the statistics. `misses_months`: some months were never analysed, and are not in the count."""

    count: int
    misses_months: bool


async def summarize(connection: Connection, device_ids: Sequence[int]) -> Mapping[int, ReadingSummary]:
    """Return the summary of each device."""
    extent = await extent_of(connection, device_ids)
    most = most_counted(len(device_ids))
    parameters = {"ids": list(device_ids), "most": most + 1, "first": extent.first, "last": extent.last}
    async with connection.cursor(row_factory=class_row(_Row)) as cursor:
        await cursor.execute(_SHORT, parameters, prepare=False)
        rows = await cursor.fetchall()
    many = [row.device_id for row in rows if row.count > most]
    estimates = await _estimates(connection, many) if many else {}
    return {row.device_id: _short(row, estimates.get(row.device_id)) for row in rows}


def _short(row: _Row, estimate: _Estimate | None) -> ReadingSummary:
    latest = None if row.id is None else msgspec.convert(row, StoredReading, from_attributes=True)
    short = ReadingSummary(count=row.count, first_at=row.first_at, latest=latest)
    if estimate is None:
        return short
    count, at_least = max(estimate.count, row.count), estimate.misses_months or estimate.count < row.count
    return msgspec.structs.replace(short, count=count, is_estimate=True, at_least=at_least)


# Estimated like the planner, month by month: a common device by its frequency, any other by an equal share of the rest.
# The rows of a month are the rows per page at ANALYZE, times its current pages. The arrays of a month are unnested
# once, not for each device.
_ESTIMATE = """
    WITH months AS MATERIALIZED (
        SELECT pg_class.oid AS month, n_distinct IS NULL OR reltuples <= 0 AS is_missed,
               reltuples * pages / greatest(relpages, 1) AS tuples,
               CASE WHEN n_distinct < 0 THEN -n_distinct * reltuples ELSE n_distinct END AS devices,
               most_common_vals::text::bigint[] AS common, most_common_freqs AS frequencies
        FROM pg_inherits
             JOIN pg_class ON pg_class.oid = inhrelid
             CROSS JOIN LATERAL (
                 SELECT pg_relation_size(inhrelid) / current_setting('block_size')::int AS pages
             ) AS file
             LEFT JOIN pg_stats ON schemaname = relnamespace::regnamespace::text AND tablename = relname
                                AND attname = 'device_id'
        WHERE inhparent = 'readings'::regclass AND pages > 0
    ), common AS MATERIALIZED (
        SELECT month, id, frequency FROM months CROSS JOIN LATERAL unnest(common, frequencies) AS one (id, frequency)
    ), others AS MATERIALIZED (
        SELECT month, is_missed, tuples,
               (1 - coalesce((SELECT sum(frequency) FROM unnest(frequencies) AS one (frequency)), 0))
                   / greatest(devices - coalesce(cardinality(common), 0), 1) AS frequency
        FROM months
    )
    SELECT device.id,
           coalesce(sum(tuples * coalesce(common.frequency, others.frequency)) FILTER (WHERE NOT is_missed), 0),
           coalesce(bool_or(is_missed), false)
    FROM unnest(%(ids)s::bigint[]) AS device (id)
         LEFT JOIN others ON true
         LEFT JOIN common ON common.month = others.month AND common.id = device.id
    GROUP BY device.id
"""


async def _estimates(connection: Connection, device_ids: Sequence[int]) -> dict[int, _Estimate]:
    cursor = await connection.execute(_ESTIMATE, {"ids": list(device_ids)})
    return {device_id: _Estimate(round(count), missed) for device_id, count, missed in await cursor.fetchall()}
