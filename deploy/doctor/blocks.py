"""Checks of the sealed blocks, from which analyses take exact figures (ADR 41).

CHECKS has the check of each subject. A service's role may run only some of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import LiteralString

import msgspec

from deploy.doctor.findings import Finding, Severity, ago
from deploy.terminal import counted, printable
from query_api.statistics.blocks.checking.device import Checker
from query_api.statistics.blocks.checking.sampling import any_block
from query_api.statistics.blocks.sealing.announcing import FENCE_HOLDERS
from shared.errors import DatabaseBusy
from shared.postgres.connections import Connection

LATE = timedelta(minutes=30)
"""Sealing is that late before it is a warning. A worker looks at each device every fifteen minutes at least."""
BACKLOG = timedelta(hours=3)
"""Late readings are settled after an hour."""
HELD = timedelta(seconds=10)
"""A transaction that stores readings takes less."""
LOOK_S = 3.0
"""Pause between two looks at transactions of which the role may not see the age."""
CHECKED = 5
"""Blocks that are checked."""
TRIES = 5
"""Attempts to check one while it changes."""
PAGES = 500
"""Pages of `blocks` from which the share of sealed readings is estimated, 4 MB."""
_MEND = "`devicestat blocks check --mend` finds and mends all"


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


async def _sealing(connection: Connection) -> list[Finding]:
    """Check whether a worker looks at all devices, and how many readings are sealed."""
    row = await (await connection.execute(_SEALED, {"pages": PAGES})).fetchone()
    assert row is not None, "aggregates have one row"
    devices, with_blocks, lag, sealed, stored = row
    text = f"devices with sealed readings: {with_blocks:,} of {devices:,}{share(sealed, stored)}"
    if lag <= LATE:
        return [Finding(Severity.OK, "sealing", text)]
    advice = (
        "analyses of millions of readings are slow meanwhile. Does a worker run, and what does its log say? After an "
        "upgrade, existing readings are sealed in the background"
    )
    return [Finding(Severity.WARNING, "sealing", f"{text}. A device was due {ago(lag)}: {advice}")]


def share(sealed: float, stored: float | None) -> str:
    """Return the share of sealed readings, as text; empty if the number of readings is not known.

    `sealed`, `stored`: estimated numbers of readings.
    """
    if not stored:
        return ""
    return f", about {min(100, round(100 * sealed / stored))} % of {round(stored):,} readings"


_LATE = "SELECT (SELECT count(*) FROM late_readings), now() - min(late_since) FROM sealed_devices"


async def _late(connection: Connection) -> list[Finding]:
    """Check whether late readings are moved into blocks."""
    row = await (await connection.execute(_LATE)).fetchone()
    assert row is not None, "an aggregate has one row"
    count, age = row
    if age is None or age <= BACKLOG:
        return [Finding(Severity.OK, "late readings", counted(count, "reading"))]
    advice = "analyses count them, and read each. Does a worker run, and does its log say why it settles none?"
    text = f"{counted(count, 'reading')}, the oldest found {ago(age)}: {advice}"
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
    duration = f"more than {look_s:g} seconds" if holder.age is None else ago(holder.age).removesuffix(" ago")
    advice = f"if it hangs, end it with SELECT pg_terminate_backend({holder.pid}); an ingestor stores its batch again"
    text = (
        f"a transaction of {printable(holder.application) or 'a client without a name'} (pid {holder.pid}) has been "
        f"storing readings for {duration}, and sealing waits for it: {advice}"
    )
    return Finding(Severity.WARNING, "fence", text)


async def _some(connection: Connection) -> list[Finding]:
    """Compare some blocks with what they are built of."""
    keys = {key for key in [await any_block(connection) for _ in range(CHECKED)] if key is not None}
    try:
        problems = [problem for key in keys for problem in await Checker(connection, tries=TRIES).block(key)]
    except DatabaseBusy as error:
        return [Finding(Severity.OK, "blocks", f"not compared: {error}")]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        return [Finding(Severity.WRONG, "blocks", f"{problems[0]}{more}: {_MEND}")]
    return [Finding(Severity.OK, "blocks", f"{counted(len(keys), 'block')} compared with the readings")]


CHECKS: Mapping[str, Callable[[Connection], Awaitable[list[Finding]]]] = {
    "sealing": _sealing,
    "late readings": _late,
    "fence": fence,
    "blocks": _some,
}
"""The progress of sealing, what delays it, and some blocks. The schema must be right."""
