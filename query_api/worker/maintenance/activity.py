"""The round that keeps the activity of devices: their state, their usual interval and their rate (ADR 47).

One worker at a time looks at the last readings of every device, by the unique index, for a tenth of the time at most.
It writes what has changed. While a device stays live, its other figures are written in some rounds only if there are
many devices, so that the rows that are written in a round are bounded.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString

import msgspec
import numpy as np
from psycopg import AsyncCursor

from query_api.devices.activity import LAST_READINGS, LATE_FOR, LIVE_FOR, SHORTEST, State
from query_api.statistics.blocks.layout import Ints
from query_api.statistics.blocks.reading.shards import by_shard, of_devices
from query_api.worker.maintenance.duty import Duty, alone
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Floats, Integers, Moment, Moments
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.readings.model import Microseconds

SHARE = 0.1
"""Of the time of a worker, at most, that the round takes."""
LOOK_AT_ONCE = 1_000
"""Devices of one statement. It takes ten milliseconds."""
ROUND_S = 60.0
"""A run ends after this time. The next one continues the round."""
WRITTEN_IN_A_ROUND = 10_000
"""Live devices whose figures are written in one round, about."""


class Seen(msgspec.Struct, frozen=True):
    """A device to look at, and the times from `starts` on, before `ends`, in which its readings are.

    They are equal if it has none.
    """

    device_id: int
    starts: Microseconds
    ends: Microseconds


class ActivityRound:
    """Keeps `device_activity`. Tests use all of the time: `share` 1."""

    def __init__(self, *, share: float = SHARE, at_once: int = LOOK_AT_ONCE, written: int = WRITTEN_IN_A_ROUND) -> None:
        self._share = share
        self._at_once = at_once
        self._written = written
        self._began_at: datetime | None = None  # of the round; None between rounds
        self._after = 0
        self._devices = 0
        self._turns, self._turn = 1, 0

    async def keep(self, connection: Connection) -> None:
        """Look at all devices, if no other worker does so."""
        ends_at, duty = time.monotonic() + ROUND_S, Duty(self._share)
        async with alone(connection, "activity round") as is_alone:
            if not is_alone:
                self._began_at = None
                return
            if self._began_at is None:
                self._began_at = await _now(connection)
                self._after = self._devices = 0
            while time.monotonic() < ends_at:
                if not await self._look_at_some(connection):
                    await self._finish(connection)
                    return
                await duty.rest()

    async def _look_at_some(self, connection: Connection) -> bool:
        """Look at the devices that follow. Return whether there were any."""
        async with arrays.cursor(connection) as cursor:
            await cursor.execute(_NEXT, {"after": self._after, "limit": self._at_once})
            devices = [Seen(*row) for row in await cursor.fetchall()]
        if not devices:
            return False
        await write_some(connection, devices, self._turns, self._turn)
        self._after = devices[-1].device_id
        self._devices += len(devices)
        return True

    async def _finish(self, connection: Connection) -> None:
        await connection.execute(_FINISHED, (self._began_at,))
        self._began_at = None
        self._turns = max(1, -(-self._devices // self._written))
        self._turn = (self._turn + 1) % self._turns


async def write_some(connection: Connection, devices: Sequence[Seen], turns: int, turn: int) -> int:
    """Write the figures of the devices that have changed, and return their number.

    Of a device that stays live they are written in one of `turns` rounds.
    """
    ids, starts, ends = np.array([msgspec.structs.astuple(device) for device in devices], np.int64).T
    parameters = {
        "first": Moment(int(min(starts[starts < ends], default=0))), "until": Moment(int(ends.max())),
        "readings": LAST_READINGS, "shortest": SHORTEST, "turns": turns, "turn": turn,
    }  # fmt: skip
    if await is_distributed(connection):
        return await _write_from_nodes(connection, (ids, starts, ends), parameters)
    periods = {"devices": Bigints(ids), "starts": Moments(starts), "ends": Moments(ends)}
    async with arrays.cursor(connection) as cursor:
        return (await cursor.execute(_WRITE, parameters | periods, prepare=False)).rowcount


async def _write_from_nodes(connection: Connection, devices: Sequence[Ints], parameters: Mapping[str, object]) -> int:
    """Write the figures of the devices (ids, starts and ends), of which the readings are on the nodes of a cluster."""
    written = 0
    for own in await by_shard(connection, devices[0]):
        ids, starts, ends = (column[own] for column in devices)
        periods = {"devices": Bigints(ids), "starts": Moments(starts), "ends": Moments(ends)}
        async with arrays.cursor(connection) as cursor:
            if not (stored := await _figures(await cursor.execute(_STORED, (Bigints(ids),)))):
                continue
            look = await cursor.execute(_LOOK, {**parameters, **periods, **stored}, prepare=False)
            if found := await _figures(look):
                written += (await cursor.execute(_WRITE_FOUND, found)).rowcount
    return written


_COLUMNS: Mapping[str, Callable[[Any], object]] = {
    "known": Bigints, "states": Integers, "last": Moments, "usual": list, "rates": Floats, "now": Moment,
}  # fmt: skip


async def _figures(cursor: AsyncCursor[Any]) -> dict[str, object]:
    """Return the columns of the only row as parameters of the next statement; empty if no device was found."""
    row = await cursor.fetchone()
    assert row is not None, "an aggregate has one row"
    return {} if row[0] is None else {name: kind(row[place]) for place, (name, kind) in enumerate(_COLUMNS.items())}


async def _now(connection: Connection) -> datetime | None:
    row = await (await connection.execute("SELECT now()")).fetchone()
    return None if row is None else row[0]


# A device without an extent has no readings (ADR 28).
_NEXT = """
    SELECT device_id, coalesce(starts_at, 'epoch'), coalesce(ends_at, 'epoch')
    FROM device_activity LEFT JOIN device_extents USING (device_id)
    WHERE device_id > %(after)s ORDER BY device_id LIMIT %(limit)s
"""
_FINISHED = "UPDATE device_activity_round SET began_at = %s"
# The extents bound each search twice, as in query_api/readings/summaries.py.
_ITS: LiteralString = """
    FROM readings
    WHERE device_id = device.id {of_shard} AND recorded_at >= device.starts AND recorded_at < device.ends
      AND recorded_at >= %(first)s AND recorded_at < %(until)s
"""
_STATE: LiteralString = f"""
    CASE WHEN last_at IS NULL THEN {State.NEVER.code}
         WHEN {{now}} - last_at <= {LIVE_FOR} * greatest(usual, %(shortest)s::interval) THEN {State.LIVE.code}
         WHEN {{now}} - last_at <= {LATE_FOR} * greatest(usual, %(shortest)s::interval) THEN {State.LATE.code}
         ELSE {State.SILENT.code} END
"""
# due: one search for each device, most of which have not changed.
# ahead: a time in the future is of a clock that is ahead. Then the receipt counts, or a reading with an earlier time.
# regular: a pause of more than LATE_FOR intervals does not lower the rate.
_FIGURES: LiteralString = f"""
    WITH looked AS MATERIALIZED (
        SELECT device.*, latest.last_at, nullif(stored.interval, '0') AS usual, stored.state AS stored_state,
               stored.last_at IS DISTINCT FROM coalesce(latest.last_at, '-infinity') AS is_other
        FROM unnest(%(devices)s::bigint[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
             AS device (id, starts, ends)
        JOIN {{stored}} ON stored.device_id = device.id
        LEFT JOIN LATERAL (SELECT recorded_at AS last_at {_ITS} ORDER BY recorded_at DESC LIMIT 1) AS latest ON true
    ), due AS MATERIALIZED (
        SELECT id, starts, ends FROM looked
        WHERE stored_state <> {_STATE} OR last_at > {{now}}
           OR is_other AND (stored_state <> {State.LIVE.code} OR id %% %(turns)s = %(turn)s)
    ), found AS MATERIALIZED (
        SELECT device.id, coalesce(ahead.seen_at, latest.seen_at) AS last_at, latest.usual, regular.rate
        FROM due AS device
        CROSS JOIN LATERAL (
            SELECT max(recorded_at) AS seen_at, array_agg(distance) AS distances,
                   percentile_disc(0.5) WITHIN GROUP (ORDER BY distance) FILTER (WHERE distance > '0') AS usual
            FROM (
                SELECT recorded_at, recorded_at - lead(recorded_at) OVER (ORDER BY recorded_at DESC) AS distance
                FROM (SELECT recorded_at {_ITS} ORDER BY recorded_at DESC LIMIT %(readings)s) AS last
            ) AS last
        ) AS latest
        CROSS JOIN LATERAL (
            SELECT coalesce(count(*) / nullif(extract(epoch FROM sum(distance))::float8, 0), 0) AS rate
            FROM unnest(latest.distances) AS distance WHERE distance <= {LATE_FOR} * latest.usual
        ) AS regular
        LEFT JOIN LATERAL (
            SELECT greatest(
                (SELECT recorded_at {_ITS} AND recorded_at <= {{now}} ORDER BY recorded_at DESC LIMIT 1),
                (SELECT least(received_at, {{now}}) {_ITS} ORDER BY recorded_at DESC LIMIT 1)) AS seen_at
            WHERE latest.seen_at > {{now}}
        ) AS ahead ON true
    ), figures AS MATERIALIZED (
        SELECT id, coalesce(last_at, '-infinity') AS last_at, usual, {_STATE} AS state,
               CASE WHEN {_STATE} < {State.SILENT.code} THEN rate ELSE 0 END AS rate
        FROM found
    )
"""  # noqa: S608  # constants
# free: a device may be renamed or deleted at the same time.
_CHANGE: LiteralString = """
    , free AS (
        SELECT device_id FROM device_activity AS stored JOIN figures ON id = device_id
        WHERE (stored.state, stored.last_at, stored.interval, stored.rate)
              IS DISTINCT FROM (figures.state, figures.last_at, usual, figures.rate)
        ORDER BY device_id FOR UPDATE OF stored SKIP LOCKED
    )
    UPDATE device_activity AS stored
    SET state = figures.state, last_at = figures.last_at, interval = usual, rate = figures.rate
    FROM free JOIN figures ON id = free.device_id WHERE stored.device_id = free.device_id
"""
_WRITE = _FIGURES.format(stored="device_activity AS stored", of_shard="", now="now()") + _CHANGE
# On a Citus cluster, the nodes have the readings, and the coordinator the stored figures and the clock. No array that a
# node gets has a NULL, because the role may have array_nulls = off there.
_STORED = """
    SELECT array_agg(device_id), array_agg(state::integer), array_agg(last_at), array_agg(coalesce(interval, '0')),
           array_agg(rate), now()
    FROM device_activity WHERE device_id = ANY(%s)
"""
_OF_COORDINATOR = """
    unnest(%(known)s::bigint[], %(states)s::integer[], %(last)s::timestamptz[], %(usual)s::interval[])
    AS stored (device_id, state, last_at, interval)
"""
_OF_NODES = _FIGURES.format(stored=_OF_COORDINATOR, of_shard=of_devices("readings"), now="%(now)s::timestamptz")
_LOOK = f"""{_OF_NODES}
    SELECT array_agg(id), array_agg(state), array_agg(last_at), array_agg(usual), array_agg(rate), %(now)s::timestamptz
    FROM figures
"""  # noqa: S608  # constants
_WRITE_FOUND = f"""
    WITH figures AS (
        SELECT * FROM unnest(%(known)s::bigint[], %(states)s::integer[], %(last)s::timestamptz[], %(usual)s::interval[],
                             %(rates)s::float8[]) AS figures (id, state, last_at, usual, rate)
    ) {_CHANGE}
"""  # noqa: S608  # constants
