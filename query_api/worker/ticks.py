"""Queue the requests of due schedules, one per tick.

Due schedules tick together, in one transaction. It locks their rows, which other workers skip, queues the requests,
records them in `analysis_ticks`, and sets the next ticks. If a worker dies meanwhile, another one runs the ticks. If
one tick fails, all of them are run one by one, and the schedule of that tick is paused. Times are those of the
database's clock.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

import msgspec
import psycopg
import structlog

from query_api.analyses.schedules.timing import read_timing
from query_api.calendar.period import Period
from query_api.errors import ClientError
from query_api.queue.requests import Callback, Wanted, enqueue_all
from query_api.statistics.figures import FigureNames
from shared.postgres.connections import Connection

MANY = 500
"""Ticks of one transaction."""

_log = structlog.get_logger()


class _Words(msgspec.Struct, frozen=True):
    """The texts of a schedule."""

    cron: str
    timezone: str
    period: str | None
    align: bool
    figures: tuple[str, ...]


class _Due(msgspec.Struct, frozen=True):
    id: int
    device_id: int
    words: _Words
    callback: str | None
    callback_owner: str | None
    next_tick: datetime
    now: datetime


class _Tick(msgspec.Struct, frozen=True):
    due: _Due
    at: datetime
    following: datetime
    wanted: Wanted


async def run_due_ticks(connection: Connection) -> int:
    """Run the due ticks. Returns their number. Of a schedule's missed ticks only the latest is run."""
    count = 0
    while done := await _run_some(connection):
        count += done
    return count


async def _run_some(connection: Connection) -> int:
    async with connection.transaction():
        due = await _lock(connection)
        if due and not await _succeeded(connection, due):
            for one in due:
                await _run_alone(connection, one)
    return len(due)


async def _succeeded(connection: Connection, due: Sequence[_Due]) -> bool:
    try:
        async with connection.transaction():
            await _run(connection, due)
    except _FAILURES:
        return False
    return True


async def _run_alone(connection: Connection, due: _Due) -> None:
    """Run one tick. If it fails, its schedule is paused with the error."""
    try:
        async with connection.transaction():
            await _run(connection, [due])
    except _FAILURES as error:
        _log.exception("the tick of a schedule failed, and the schedule is paused", id=due.id)
        await connection.execute(_PAUSE, {"id": due.id, "error": f"{type(error).__name__}: {error}".strip()})


_FAILURES = (ValueError, ClientError, psycopg.DataError, psycopg.IntegrityError)
_PAUSE = "UPDATE analysis_schedules SET next_tick = NULL, last_error = %(error)s WHERE id = %(id)s"


async def _run(connection: Connection, due: Sequence[_Due]) -> None:
    ticks = [_tick(one) for one in due]
    new = await _record(connection, ticks)
    requests = await enqueue_all(connection, [tick.wanted for tick in new])
    moved = {
        "ids": [tick.due.id for tick in new], "ticks": [tick.at for tick in new], "requests": requests,
    }  # fmt: skip
    await connection.execute(_POINT, moved)
    following = {
        "ids": [tick.due.id for tick in ticks], "ticks": [tick.at for tick in ticks],
        "following": [tick.following for tick in ticks],
    }  # fmt: skip
    await connection.execute(_MOVE_ON, following)
    _log.info("schedules ticked", schedules=len(ticks), requests=len(set(requests)))


def _tick(due: _Due) -> _Tick:
    at, following, period, figures = _times(due.words, due.next_tick, due.now)
    callback = Callback(due.callback, due.callback_owner) if due.callback is not None else None
    return _Tick(due, at, following, Wanted(due.device_id, period, figures, callback, by_schedule=True))


@lru_cache(maxsize=1024)
def _times(words: _Words, since: datetime, now: datetime) -> tuple[datetime, datetime, Period, FigureNames]:
    """Return the tick, the following one, and the period and figures of the tick. Many schedules have the same."""
    timing = read_timing(words)
    at = timing.cron.latest(since, now)
    return at, timing.cron.after(now), timing.period(at), timing.figures


# The devices are locked too, as enqueue_all locks them. So their deletion waits for the ticks, and not vice versa.
_DUE = """
    SELECT schedule.id, device_id, callback, callback_owner, next_tick, now(), cron, timezone, period, align, figures
    FROM analysis_schedules AS schedule JOIN devices AS device ON device.id = device_id
    WHERE next_tick <= now()
    ORDER BY next_tick
    LIMIT %s
    FOR UPDATE OF schedule SKIP LOCKED
    FOR KEY SHARE OF device SKIP LOCKED
"""


async def _lock(connection: Connection) -> list[_Due]:
    rows = await (await connection.execute(_DUE, (MANY,))).fetchall()
    return [
        _Due(schedule, device, _Words(cron, timezone, period, align, tuple(figures)), url, owner, next_tick, now)
        for schedule, device, url, owner, next_tick, now, cron, timezone, period, align, figures in rows
    ]


# A tick is not run twice if the database's clock is set back.
_RECORD = """
    INSERT INTO analysis_ticks (schedule_id, tick)
    SELECT * FROM unnest(%(ids)s::bigint[], %(ticks)s::timestamptz[]) ON CONFLICT DO NOTHING RETURNING schedule_id
"""
_POINT = """
    UPDATE analysis_ticks SET request_id = request
    FROM unnest(%(ids)s::bigint[], %(ticks)s::timestamptz[], %(requests)s::bigint[]) AS of (id, at, request)
    WHERE schedule_id = id AND tick = at
"""
_MOVE_ON = """
    UPDATE analysis_schedules AS schedule SET next_tick = following, last_tick = at
    FROM unnest(%(ids)s::bigint[], %(ticks)s::timestamptz[], %(following)s::timestamptz[]) AS of (id, at, following)
    WHERE schedule.id = of.id
"""


async def _record(connection: Connection, ticks: Sequence[_Tick]) -> list[_Tick]:
    """Record the ticks. Return those that were not recorded before."""
    columns = {"ids": [tick.due.id for tick in ticks], "ticks": [tick.at for tick in ticks]}
    recorded = {row[0] for row in await (await connection.execute(_RECORD, columns)).fetchall()}
    return [tick for tick in ticks if tick.due.id in recorded]
