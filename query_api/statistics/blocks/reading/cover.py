"""The blocks that cover a period, and the late readings in it, in one statement for all items (on a cluster, in a few).

The statement descends from blocks that no other covers: a block inside of the period counts as a whole; of a block
at an end of it the blocks below are looked at; of those that hold readings, the readings.
"""

from collections.abc import Sequence
from typing import Any, LiteralString, Self

import msgspec
import numpy as np

from query_api.statistics.blocks.computing import OF_AN_ITEM, computed
from query_api.statistics.blocks.damage import DamagedBlocks, narrowed, require_marks, require_times
from query_api.statistics.blocks.layout import AXES, BASE, Ints, Layout, Times
from query_api.statistics.blocks.packed import PACKED, unpacked
from query_api.statistics.blocks.reading.gathered import Blocks, Gathered
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.shards import by_shard, of_devices
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moment, Moments
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed

_INSIDE = "FILTER (WHERE inside)"
_RANGES = ", ".join(f"min(min_{axis}) {_INSIDE}, max(max_{axis}) {_INSIDE}" for axis in AXES)
_TOTALS = ", ".join(f"sum(sum_{axis}) {_INSIDE}" for axis in AXES)
_WITHOUT_SQUARES = f"""
    array_agg(level::integer) FILTER (WHERE NOT inside), array_agg(first) FILTER (WHERE NOT inside),
    array_agg(count) FILTER (WHERE NOT inside), string_agg(CASE WHEN NOT inside THEN times END, NULL),
    array_agg(level::integer) {_INSIDE}, array_agg(first) {_INSIDE},
    array_agg(count) {_INSIDE}, string_agg(CASE WHEN inside THEN marks END, NULL), {_RANGES}, {_TOTALS}
"""
_WITH_SQUARES = ", ".join([_WITHOUT_SQUARES, *(f"sum(squares_{axis}) {_INSIDE}" for axis in AXES)])
_SUMMED = ", ".join(f"root.min_{axis}, root.max_{axis}, root.sum_{axis}, root.squares_{axis}" for axis in AXES)
ONE_PLAN: LiteralString = "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off"
"""Settings for `cover`, whose statement restores them.

Its plan does not depend on the values, and making it takes longer than running it. By default PostgreSQL would make it
each time. enable_seqscan: the plan is kept while tables grow that were empty.
"""
_LATE = f"""
    SELECT {PACKED} FROM late_readings
    WHERE late_readings.device_id = item.device_id {{late}} AND recorded_at >= item.starts AND recorded_at <= item.ends
      AND recorded_at < watermark.sealed AND NOT recorded_at <@ hidden.months
"""  # noqa: S608  # constants
_FOUND = """
    WITH RECURSIVE node AS (
        SELECT * FROM blocks AS root
        WHERE root.device_id = item.device_id {root} AND NOT root.merged
          AND root.first <= item.ends AND root.last >= item.starts AND NOT root.first <@ hidden.months
        UNION ALL
        SELECT below.* FROM node
        JOIN blocks AS below ON below.device_id = item.device_id {below} AND below.level = node.level - 1
         AND below.first >= node.first AND below.first <= node.last
         AND below.first <= item.ends AND below.last >= item.starts
        WHERE node.level > 1 AND (node.first < item.starts OR node.last > item.ends)
    )
    SELECT {figures}
    FROM (SELECT *, first >= item.starts AND last <= item.ends AS inside FROM node) AS node
    WHERE inside OR level <= 1
"""
_ITEMS = """
    FROM unnest(%(devices)s::bigint[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY
         AS item (device_id, starts, ends, number)
"""
_STATEMENT = f"""
    SELECT device.id IS NOT NULL, watermark.sealed, extent.starts_at, extent.ends_at, late.*, found.*
    {_ITEMS}
    LEFT JOIN devices AS device ON device.id = item.device_id
    LEFT JOIN sealed_devices AS watermark ON watermark.device_id = item.device_id
    LEFT JOIN device_extents AS extent ON extent.device_id = item.device_id
    CROSS JOIN (
        SELECT set_config('plan_cache_mode', 'auto', true), set_config('enable_seqscan', 'on', true)
    ) AS restored
    CROSS JOIN hidden_months AS hidden
    CROSS JOIN LATERAL ({_LATE}) AS late
    CROSS JOIN LATERAL ({_FOUND}) AS found
    ORDER BY item.number
"""  # constants
# On a Citus cluster: what the coordinator knows; then what a node knows, with the months that the coordinator hides.
_OF_COORDINATOR = f"""
    SELECT device.id IS NOT NULL, extent.starts_at, extent.ends_at
    {_ITEMS}
    LEFT JOIN devices AS device ON device.id = item.device_id
    LEFT JOIN device_extents AS extent ON extent.device_id = item.device_id
    ORDER BY item.number
"""  # constants
_HIDDEN = "SELECT months::text FROM hidden_months"
_OF_NODE = f"""
    SELECT watermark.sealed, late.*, found.*
    {_ITEMS}
    LEFT JOIN sealed_until AS watermark ON watermark.device_id = item.device_id {{watermark}}
    CROSS JOIN (SELECT %(hidden)s::tstzmultirange AS months) AS hidden
    CROSS JOIN LATERAL ({_LATE}) AS late
    CROSS JOIN LATERAL ({_FOUND}) AS found
    ORDER BY item.number
"""  # constants
# What the nodes know of the devices of all shards over one period, without descending. `deep`: whether a block with
# blocks below it lies across an end. A device without a watermark has no row.
_OF_ALL_NODES = f"""
    SELECT own_id, bool_or(NOT inside AND level > {BASE}) AS deep, sealed, {{figures}}
    FROM (
        SELECT watermark.device_id AS own_id, watermark.sealed,
               root.level, root.first, root.count, root.times, root.marks, {_SUMMED},
               root.first >= %(start)s AND root.last <= %(end)s AS inside
        FROM sealed_until AS watermark
        LEFT JOIN blocks AS root ON root.device_id = watermark.device_id AND NOT root.merged
         AND root.first <= %(end)s AND root.last >= %(start)s AND NOT root.first <@ %(hidden)s::tstzmultirange
        WHERE watermark.device_id = ANY(%(devices)s::bigint[])
    ) AS node
    GROUP BY own_id, sealed
"""  # noqa: S608  # constants
_LATE_OF_ALL_NODES = f"""
    SELECT device_id, {PACKED} FROM late_readings JOIN sealed_until AS watermark USING (device_id)
    WHERE device_id = ANY(%(devices)s::bigint[]) AND recorded_at >= %(start)s AND recorded_at <= %(end)s
      AND recorded_at < watermark.sealed AND NOT recorded_at <@ %(hidden)s::tstzmultirange
    GROUP BY device_id
""".encode()  # noqa: S608  # constants
_ANY_SHARD = {"late": "", "root": "", "below": "", "watermark": ""}
_ONE_SHARD = {
    "late": of_devices("late_readings"), "root": of_devices("root"), "below": of_devices("below"),
    "watermark": of_devices("watermark"),
}  # fmt: skip


class _Statement(msgspec.Struct, frozen=True):
    """A statement with and without the sums of squares."""

    with_squares: bytes
    without_squares: bytes

    @classmethod
    def of(cls, text: str, **tables: str) -> Self:
        return cls(*(text.format(figures=figures, **tables).encode() for figures in (_WITH_SQUARES, _WITHOUT_SQUARES)))

    def chosen(self, *, with_squares: bool) -> bytes:
        return self.with_squares if with_squares else self.without_squares


_ONE_DATABASE = _Statement.of(_STATEMENT, **_ANY_SHARD)
_ONE_NODE = _Statement.of(_OF_NODE, **_ONE_SHARD)
_ALL_NODES = _Statement.of(_OF_ALL_NODES)
_NOTHING = (None,) * 10
"""What nodes know of a device without a watermark. It has fewer columns than a row, as the rest is not looked at."""


class AtEnds(msgspec.Struct, frozen=True):
    """Blocks of readings at the ends of an item's period. `times`: the kept times of all of them."""

    item: int
    level: Ints
    first: Times
    count: Ints
    times: Times


class Covered(msgspec.Struct, frozen=True):
    """What a statement has found besides whole blocks.

    `sealed`: of each item. `first`, `last`: the extent of its device, both included. `unknown`: items without a device.
    """

    sealed: Times
    first: Times
    last: Times
    at_ends: Sequence[AtEnds]
    unknown: Sequence[int]


async def cover(connection: Connection, items: Items, gathered: Gathered, layout: Layout) -> Covered:
    """Add the whole blocks and the late readings of each item to `gathered`, and return the rest.

    It is faster if the caller has set ONE_PLAN. Raises DamagedBlocks.
    """
    find = _of_cluster if await is_distributed(connection) else _of_one_database
    rows = await find(connection, items, with_squares=gathered.squares is not None)
    try:
        return await computed(OF_AN_ITEM * len(rows), lambda: _add(gathered, items, rows, layout))
    except DamagedBlocks as error:
        raise await narrowed(connection, error, layout) from None


async def _of_one_database(connection: Connection, items: Items, *, with_squares: bool) -> list[Any]:
    statement = _ONE_DATABASE.chosen(with_squares=with_squares)
    async with arrays.cursor(connection) as cursor:
        return await arrays.fetch(await cursor.execute(statement, _parameters(items), prepare=True))


async def _of_cluster(connection: Connection, items: Items, *, with_squares: bool) -> list[Any]:
    """Return the same rows from the nodes of a Citus cluster. There is one snapshot for each node."""
    async with arrays.cursor(connection) as cursor:
        known = await arrays.fetch(await cursor.execute(_OF_COORDINATOR, _parameters(items), prepare=True))
        hidden = await (await cursor.execute(_HIDDEN)).fetchone()
    assert hidden is not None, "the view has one row"
    rows: list[Any] = [None] * len(known)
    rest = np.arange(len(known))
    if _is_over_one_period(items):
        rows = await _of_all_nodes(connection, items, hidden[0], with_squares=with_squares)
        rest = np.array([place for place, row in enumerate(rows) if row is None], np.int64)
    for places in await by_shard(connection, items.devices[rest]):
        own = rest[places]
        found = await _of_shard(connection, items.at(own), hidden[0], with_squares=with_squares)
        for place, row in zip(own.tolist(), found, strict=True):
            rows[place] = row
    return [
        (is_known, sealed, begins, ends, *found)
        for (is_known, begins, ends), (sealed, *found) in zip(known, rows, strict=True)
    ]


def _is_over_one_period(items: Items) -> bool:
    """Return whether these are several devices over one period."""
    periods = np.stack([items.starts, items.ends])
    return len(items.devices) > 1 and bool(
        (items.devices != items.devices[0]).any() and (periods == periods[:, :1]).all()
    )


async def _of_all_nodes(connection: Connection, items: Items, hidden: str, *, with_squares: bool) -> list[Any]:
    """Return what nodes know of each item over the period of all; None if its blocks must be descended into."""
    parameters = {
        "devices": Bigints(np.unique(items.devices)), "start": Moment(int(items.starts[0])),
        "end": Moment(int(items.ends[0])), "hidden": hidden,
    }  # fmt: skip
    statement = _ALL_NODES.chosen(with_squares=with_squares)
    async with arrays.cursor(connection) as cursor:
        found = await arrays.fetch(await cursor.execute(statement, parameters, prepare=False))
        late = dict(await arrays.fetch(await cursor.execute(_LATE_OF_ALL_NODES, parameters, prepare=False)))
    rows = {
        device_id: None if deep else (sealed, late.get(device_id), *figures)
        for device_id, deep, sealed, *figures in found
    }
    return [rows.get(device_id, _NOTHING) for device_id in items.devices.tolist()]


async def _of_shard(connection: Connection, items: Items, hidden: str, *, with_squares: bool) -> list[Any]:
    """Return what a node knows of each item. The devices are of one shard."""
    parameters = _parameters(items) | {"hidden": hidden}
    async with arrays.cursor(connection) as cursor:
        statement = _ONE_NODE.chosen(with_squares=with_squares)
        return await arrays.fetch(await cursor.execute(statement, parameters, prepare=False))


def _parameters(items: Items) -> dict[str, Any]:
    return {"devices": Bigints(items.devices), "starts": Moments(items.starts), "ends": Moments(items.ends)}


def _add(gathered: Gathered, items: Items, rows: Sequence[Sequence[Any]], layout: Layout) -> Covered:
    sealed, first = np.full((2, len(rows)), arrays.EARLIEST)
    last = np.full(len(rows), arrays.LATEST)
    at_ends: list[AtEnds] = []
    unknown: list[int] = []
    for item, (is_known, until, begins, ends, late, *found) in enumerate(rows):
        if not is_known:
            unknown.append(item)
        if until is not None:
            sealed[item] = until
        if begins is not None:
            first[item], last[item] = begins, ends - 1
        if late is not None:
            gathered.add_readings(int(items.groups[item]), unpacked(late))
        if found[0] is not None:
            level, begin, count, times = found[:4]
            require_times(int(items.devices[item]), level, begin, count, times, layout)
            at_ends.append(AtEnds(item, level, begin, count, np.frombuffer(times, "<i8")))
        if found[4] is not None:
            _add_whole(gathered, items, item, found[4:], layout)
    return Covered(sealed, first, last, at_ends, unknown)


def _add_whole(gathered: Gathered, items: Items, item: int, found: Sequence[Any], layout: Layout) -> None:
    level, first, count, marks, *rest = found
    require_marks(int(items.devices[item]), level, first, count, marks, layout)
    ranges, totals, squares = rest[:6], rest[6:9], rest[9:]
    device, group = (np.full(len(level), column[item]) for column in (items.devices, items.groups))
    blocks = Blocks(device, level, first, count, group, np.frombuffer(marks, "<f8"))
    gathered.add_blocks(blocks, ranges, totals, squares or None)
