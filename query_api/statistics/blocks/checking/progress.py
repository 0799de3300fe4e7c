"""How far readings are sealed, and what delays it."""

import asyncio
from datetime import timedelta
from typing import LiteralString

import msgspec

from query_api.statistics.blocks.sealing.announcing import FENCE_HOLDERS
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.status.findings import Finding, Severity
from shared.status.words import ago, counted, lasting, printable

LATE = timedelta(minutes=30)
"""Sealing is that late before it is a warning. A worker looks at each device every fifteen minutes at least."""
BACKLOG = timedelta(hours=3)
"""Late readings are settled after an hour."""
HELD = timedelta(seconds=10)
"""A transaction that stores readings takes less."""
LOOK_S = 3.0
"""Pause between two looks at transactions of which the role may not see the age."""
PAGES = 500
"""Pages of `blocks` from which the share of sealed readings is estimated, 4 MB."""


# reltuples is -1 before the first ANALYZE. A page of `blocks` has one row, or few.
_SEALED = """
    WITH known AS (
        SELECT count(*) AS devices, count(*) FILTER (WHERE sealed > '-infinity') AS with_blocks,
               now() - min(coalesce(look_at, created_at)) AS lag
        FROM devices LEFT JOIN sealed_devices ON device_id = id
    ), size AS (
        SELECT greatest(1, pg_relation_size('blocks') / current_setting('block_size')::float8 / %(pages)s) AS samples
    )
    SELECT devices, with_blocks, greatest(lag, '0'),
           (SELECT coalesce(sum(count), 0)::float8 FROM blocks TABLESAMPLE SYSTEM ((SELECT 100 / samples FROM size))
            WHERE level <= 1) * samples,
           (SELECT sum(reltuples)::float8 FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
            WHERE inhparent = 'readings'::regclass AND reltuples > 0)
    FROM known, size
"""
# On a Citus cluster, the nodes have the pages and the statistics.
_SIZES_ON_NODES = """
    SELECT greatest(1, citus_relation_size('blocks') / current_setting('block_size')::float8 / %(pages)s), (
        SELECT nullif(sum(result::float8), 0) FROM run_command_on_all_nodes(format(
            'SELECT coalesce(sum(reltuples), 0) FROM pg_class WHERE relnamespace = %%L::regnamespace'
            ' AND relkind = %%L AND reltuples > 0 AND relname ~ %%L',
            current_schema(), 'r', '^readings_[0-9]{4}_[0-9]{2}_[0-9]+$')) WHERE success)
"""
_SEALED_ON_NODES = """
    WITH sums AS MATERIALIZED (
        SELECT coalesce(sum(count), 0)::float8 AS sealed FROM blocks TABLESAMPLE SYSTEM (100 / %(samples)s::float8)
        WHERE level <= 1
    )
    SELECT count(*), count(*) FILTER (WHERE sealed > '-infinity'),
           greatest(now() - min(coalesce(look_at, created_at)), '0'),
           (SELECT sums.sealed FROM sums) * %(samples)s, %(stored)s::float8
    FROM devices LEFT JOIN sealed_devices ON device_id = id
"""


class Coverage(msgspec.Struct, frozen=True):
    """How far readings are sealed. `lag`: how long a device is due. `sealed`, `stored`: estimated numbers of readings.

    `stored` is None before the first ANALYZE.
    """

    devices: int
    with_blocks: int
    lag: timedelta
    sealed: float
    stored: float | None

    @property
    def share(self) -> float | None:
        """The share of the readings that are sealed, from 0 to 1; None if the number of readings is not known."""
        return min(1.0, self.sealed / self.stored) if self.stored else None


async def coverage(connection: Connection) -> Coverage:
    """Estimate how far readings are sealed, from a bounded part of the blocks."""
    statement, parameters = _SEALED, {"pages": PAGES}
    if await is_distributed(connection):
        samples, stored = await (await connection.execute(_SIZES_ON_NODES, parameters)).fetchone() or (1, None)
        statement, parameters = _SEALED_ON_NODES, {"samples": samples, "stored": stored}
    row = await (await connection.execute(statement, parameters)).fetchone()
    assert row is not None, "aggregates have one row"
    return Coverage(*row)


async def sealing(connection: Connection) -> list[Finding]:
    """Check whether a worker looks at all devices, and how many readings are sealed."""
    return judge_sealing(await coverage(connection))


def judge_sealing(found: Coverage) -> list[Finding]:
    """Return the finding on the progress of sealing."""
    sealed = share(found.sealed, found.stored)
    text = f"devices with sealed readings: {found.with_blocks:,} of {found.devices:,}{sealed}"
    if found.lag <= LATE:
        return [Finding(Severity.OK, "sealing", text)]
    advice = (
        "analyses of millions of readings are slow meanwhile. Does a worker run, and what does its log say? After an "
        "upgrade, existing readings are sealed in the background"
    )
    return [Finding(Severity.WARNING, "sealing", f"{text}. A device was due {ago(found.lag)}: {advice}")]


def share(sealed: float, stored: float | None) -> str:
    """Return the share of sealed readings, as text; empty if the number of readings is not known.

    `sealed`, `stored`: estimated numbers of readings.
    """
    if not stored:
        return ""
    return f", about {min(100, round(100 * sealed / stored))} % of {round(stored):,} readings"


_LATE = "SELECT (SELECT count(*) FROM late_readings), now() - min(late_since) FROM sealed_devices"


class Late(msgspec.Struct, frozen=True):
    """The late readings outside of blocks, and the age of the oldest; None without one."""

    count: int
    age: timedelta | None


async def late(connection: Connection) -> Late:
    """Count the late readings outside of blocks."""
    row = await (await connection.execute(_LATE)).fetchone()
    assert row is not None, "an aggregate has one row"
    return Late(*row)


async def late_readings(connection: Connection) -> list[Finding]:
    """Check whether late readings are moved into blocks."""
    return judge_late(await late(connection))


def judge_late(found: Late) -> list[Finding]:
    """Return the finding on late readings."""
    if found.age is None or found.age <= BACKLOG:
        return [Finding(Severity.OK, "late readings", counted(found.count, "reading"))]
    advice = "analyses count them, and read each. Does a worker run, and does its log say why it settles none?"
    text = f"{counted(found.count, 'reading')}, the oldest found {ago(found.age)}: {advice}"
    return [Finding(Severity.WARNING, "late readings", text)]


class Holder(msgspec.Struct, frozen=True):
    """A transaction that holds the fence. `age`: None if the role may not see it."""

    transaction: str
    pid: int
    application: str
    age: timedelta | None


_ALL: LiteralString = "SELECT virtualtransaction, pid FROM " + FENCE_HOLDERS  # noqa: S608  # constants
_HOLDING: LiteralString = (
    "SELECT virtualtransaction, pid, coalesce(application_name, ''), clock_timestamp() - xact_start "  # noqa: S608  # constants
    f"FROM ({_ALL}) AS holder JOIN pg_stat_activity USING (pid) ORDER BY xact_start, pid"
)


async def fence(connection: Connection, held: timedelta = HELD, look_s: float = LOOK_S) -> list[Finding]:
    """Report transactions that hold the fence for long: sealing waits for each of them."""
    holders = await _holders(connection)
    if any(one.age is None for one in holders):
        await asyncio.sleep(look_s)
        still = {one.transaction for one in await _holders(connection)}
        holders = [one for one in holders if one.transaction in still]
    return [_held(one, look_s) for one in holders if one.age is None or one.age > held]


async def _holders(connection: Connection) -> list[Holder]:
    return [Holder(*row) for row in await (await connection.execute(_HOLDING)).fetchall()]


def _held(holder: Holder, look_s: float) -> Finding:
    duration = f"more than {look_s:g} seconds" if holder.age is None else lasting(holder.age)
    advice = f"if it hangs, end it with SELECT pg_terminate_backend({holder.pid}); an ingestor stores its batch again"
    text = (
        f"a transaction of {printable(holder.application) or 'a client without a name'} (pid {holder.pid}) has been "
        f"storing readings for {duration}, and sealing waits for it: {advice}"
    )
    return Finding(Severity.WARNING, "fence", text)
