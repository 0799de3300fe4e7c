"""Summaries of devices' readings: their count, the time of the first one, and the latest one.

Sealed readings are counted by their blocks, exactly. Of the others, each index entry is read, so they are counted up to
a bound. Above it, the count is an estimate from PostgreSQL's statistics, scaled by the growth of the files since
ANALYZE. A month that was never analysed has no statistics: then the count is a lower bound, and marked as one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import numpy as np
from psycopg import sql
from psycopg.rows import class_row

from query_api.readings.record import StoredReading
from query_api.statistics.blocks.layout import Ints
from query_api.statistics.blocks.reading.shards import by_shard, of_devices
from shared.event_loop.parts import fetched, mapped
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moments, adapted
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.readings.extents import extent_of

COUNTED = 1_000
"""Readings of each device that are counted one by one, at most, for any number of devices."""
COUNTED_IN_ALL = 100_000
"""A few devices share this bound."""
COUNTED_BESIDE_BLOCKS = 3_000
"""The same for a device with blocks. It seldom has more that are not sealed: those of a mini block and of the last
minutes."""

PLANNED = 10
"""Devices of one plan of a node. More take longer again, as a plan has a part for each month of each device."""


def most_counted(devices: int) -> int:
    """Return the number of readings without blocks up to which counts are exact, for this number of devices."""
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
    is_whole: bool
    first_at: datetime | None
    id: int | None
    x: float | None
    y: float | None
    z: float | None
    timestamp: datetime | None


# The extents bound each search twice. The device's own extent bounds the execution. The extent of all the devices
# bounds the plan, which then neither contains nor locks other months.
_DEVICE = """
    SELECT asked.id, coalesce(starts_at, '-infinity') AS starts_at, coalesce(ends_at, 'infinity') AS ends_at,
           coalesce(sealed, '-infinity') AS sealed,
           CASE WHEN sealed > '-infinity' THEN greatest(%(most)s, %(beside_blocks)s) ELSE %(most)s END AS most
"""
_COUNTS = """
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(block.count), 0)::bigint AS count FROM blocks AS block
        WHERE block.device_id = device.id {block} AND NOT block.merged AND NOT block.first <@ hidden.months
    ) AS sealed
    CROSS JOIN LATERAL (
        SELECT count(*) FROM late_readings
        WHERE device_id = device.id {late_readings} AND recorded_at < device.sealed AND NOT recorded_at <@ hidden.months
    ) AS late
    CROSS JOIN LATERAL (
        SELECT count(*) FROM (
            SELECT FROM readings
            WHERE device_id = device.id {readings} AND recorded_at >= device.starts_at AND recorded_at < device.ends_at
              AND recorded_at >= device.sealed
              AND recorded_at >= coalesce(%(first)s::timestamptz, '-infinity')
              AND recorded_at <= coalesce(%(last)s::timestamptz, 'infinity')
            LIMIT device.most + 1
        ) AS few
    ) AS counted
    LEFT JOIN LATERAL (
        SELECT recorded_at FROM readings
        WHERE device_id = device.id {readings} AND recorded_at >= device.starts_at AND recorded_at < device.ends_at
          AND recorded_at >= coalesce(%(first)s::timestamptz, '-infinity')
          AND recorded_at <= coalesce(%(last)s::timestamptz, 'infinity')
        ORDER BY recorded_at LIMIT 1
    ) AS first ON true
    LEFT JOIN LATERAL (
        SELECT id, recorded_at, x, y, z FROM readings
        WHERE device_id = device.id {readings} AND recorded_at >= device.starts_at AND recorded_at < device.ends_at
          AND recorded_at >= coalesce(%(first)s::timestamptz, '-infinity')
          AND recorded_at <= coalesce(%(last)s::timestamptz, 'infinity')
        ORDER BY recorded_at DESC, x DESC, y DESC, z DESC LIMIT 1
    ) AS latest ON true
"""
_FIELDS = """
    SELECT device.id AS device_id, sealed.count + late.count + counted.count AS count,
           counted.count <= device.most AS is_whole, first.recorded_at AS first_at,
           latest.id, latest.x, latest.y, latest.z, latest.recorded_at AS timestamp
"""
_SHORT = f"""
    {_FIELDS}
    FROM unnest(%(ids)s::bigint[]) AS asked (id)
    CROSS JOIN hidden_months AS hidden
    CROSS JOIN LATERAL (
        {_DEVICE}
        FROM (SELECT) AS one
             LEFT JOIN device_extents ON device_extents.device_id = asked.id
             LEFT JOIN sealed_devices ON sealed_devices.device_id = asked.id
    ) AS device
    {_COUNTS.format(block="", late_readings="", readings="")}
"""  # constants
# On a Citus cluster: the extents, which the coordinator has, and then a statement for the devices of each shard.
_EXTENTS = """
    SELECT array_agg(coalesce(starts_at, '-infinity') ORDER BY number),
           array_agg(coalesce(ends_at, 'infinity') ORDER BY number), (SELECT months::text FROM hidden_months)
    FROM unnest(%s::bigint[]) WITH ORDINALITY AS asked (id, number) LEFT JOIN device_extents ON device_id = asked.id
"""
_SHORT_OF_SHARD = f"""
    {_FIELDS}
    FROM unnest(%(devices)s::bigint[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
         AS asked (id, starts_at, ends_at)
    LEFT JOIN sealed_until ON sealed_until.device_id = asked.id {of_devices("sealed_until")}
    CROSS JOIN (SELECT %(hidden)s::tstzmultirange AS months) AS hidden
    CROSS JOIN LATERAL ({_DEVICE}) AS device
    {_COUNTS.format(**{name: of_devices(name) for name in ("block", "late_readings", "readings")})}
"""  # constants


class _Estimate(msgspec.Struct, frozen=True):
    """An estimate from the statistics. `misses_months`: some months were never analysed, and are not in the count."""

    count: int
    misses_months: bool


async def summarize(connection: Connection, device_ids: Sequence[int]) -> Mapping[int, ReadingSummary]:
    """Return the summary of each device."""
    extent = await extent_of(connection, device_ids)
    most = most_counted(len(device_ids))
    parameters = {
        "most": most, "beside_blocks": COUNTED_BESIDE_BLOCKS, "first": extent.first, "last": extent.last
    }  # fmt: skip
    if await is_distributed(connection):
        rows = await _rows_of_nodes(connection, device_ids, parameters)
    else:
        rows = await _rows(connection, _SHORT, {"ids": _ids(device_ids), **parameters})
    many = [row.device_id for row in rows if not row.is_whole]
    estimates = await _estimates(connection, many) if many else {}
    short = await mapped(rows, lambda row: _short(row, estimates.get(row.device_id)))
    return {row.device_id: one for row, one in zip(rows, short, strict=True)}


async def _rows(connection: Connection, statement: str, parameters: Mapping[str, object]) -> list[_Row]:
    async with adapted(connection).cursor(row_factory=class_row(_Row)) as cursor:
        await cursor.execute(statement.encode(), parameters, prepare=False)
        return await fetched(cursor)


async def _rows_of_nodes(
    connection: Connection, device_ids: Sequence[int], parameters: Mapping[str, object]
) -> list[_Row]:
    devices = np.array(device_ids, np.int64)
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_EXTENTS, (Bigints(devices),))).fetchone()
    assert row is not None, "an aggregate has one row"
    starts, ends, hidden = row
    rows: list[_Row] = []
    for own in await by_shard(connection, devices):
        periods = {"devices": Bigints(devices[own]), "starts": Moments(starts[own]), "ends": Moments(ends[own])}
        rows += await _rows(connection, _SHORT_OF_SHARD, {**parameters, **periods, "hidden": hidden})
    return rows


def _ids(device_ids: Sequence[int]) -> Bigints:
    return Bigints(np.array(device_ids, np.int64))


def _short(row: _Row, estimate: _Estimate | None) -> ReadingSummary:
    if estimate is None:
        return ReadingSummary(count=row.count, first_at=row.first_at, latest=_latest(row))
    return ReadingSummary(
        count=max(estimate.count, row.count),
        is_estimate=True,
        at_least=estimate.misses_months or estimate.count < row.count,
        first_at=row.first_at,
        latest=_latest(row),
    )


def _latest(row: _Row) -> StoredReading | None:
    if row.id is None or row.x is None or row.y is None or row.z is None or row.timestamp is None:
        return None
    return StoredReading(id=row.id, device_id=row.device_id, x=row.x, y=row.y, z=row.z, timestamp=row.timestamp)


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
    if await is_distributed(connection):
        return await _estimates_of_nodes(connection, np.array(device_ids, np.int64))
    async with adapted(connection).cursor() as cursor:
        rows = await fetched(await cursor.execute(_ESTIMATE, {"ids": _ids(device_ids)}))
    return {device_id: _Estimate(round(count), missed) for device_id, count, missed in rows}


# OFFSET keeps the part of each device in the plan: a sum of them all would be one plan of months.
_EXPLAIN = "EXPLAIN (FORMAT JSON) {}"
_ROWS = "(SELECT FROM readings WHERE device_id = {} OFFSET 0)"


async def _estimates_of_nodes(connection: Connection, devices: Ints) -> dict[int, _Estimate]:
    """Return the rows that the nodes expect: they have the statistics, and the coordinator has none."""
    found: dict[int, _Estimate] = {}
    for own in await by_shard(connection, devices):
        ids = devices[own].tolist()
        for first in range(0, len(ids), PLANNED):
            found |= await _estimates_of_shard(connection, ids[first : first + PLANNED])
    return found


async def _estimates_of_shard(connection: Connection, device_ids: Sequence[int]) -> dict[int, _Estimate]:
    parts = [sql.SQL(_ROWS).format(sql.Literal(device_id)) for device_id in device_ids]
    statement = sql.SQL(_EXPLAIN).format(sql.SQL(" UNION ALL ").join(parts))
    row = await (await connection.execute(statement)).fetchone()
    assert row is not None, "EXPLAIN has one row"
    (task,) = row[0][0]["Plan"]["Distributed Query"]["Job"]["Tasks"]
    plan = task["Remote Plan"][0][0]["Plan"]
    plans = plan["Plans"] if len(device_ids) > 1 else [plan]
    return {
        device_id: _Estimate(int(one["Plan Rows"]), misses_months=False)
        for device_id, one in zip(device_ids, plans, strict=True)
    }
