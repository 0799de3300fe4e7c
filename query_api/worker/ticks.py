"""Queue the requests of due schedules, one per tick.

A tick is one transaction. It locks the schedule's row, which other workers skip, queues the request, records it in
`analysis_ticks`, and sets the next tick. If a worker dies during a tick, another one runs it. Times are those of the
database's clock.
"""

from datetime import datetime

import msgspec
import psycopg
import structlog
from psycopg.rows import class_row

from query_api.analyses.schedules.timing import read_timing
from query_api.errors import ClientError
from query_api.queue.requests import Callback, enqueue
from shared.postgres.connections import Connection

_log = structlog.get_logger()


class _Due(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    device_id: int
    cron: str
    timezone: str
    period: str | None
    align: bool
    figures: list[str]
    callback: str | None
    callback_owner: str | None
    next_tick: datetime
    now: datetime


async def run_due_ticks(connection: Connection) -> int:
    """Run the due ticks. Returns their number. Of a schedule's missed ticks only the latest is run."""
    count = 0
    while await _run_one(connection):
        count += 1
    return count


async def _run_one(connection: Connection) -> bool:
    """Run one due tick; False if none is due. A schedule whose tick fails is paused with the error."""
    async with connection.transaction():
        due = await _lock_one(connection)
        if due is None:
            return False
        try:
            async with connection.transaction():
                await _tick(connection, due)
        except (ValueError, ClientError, psycopg.DataError, psycopg.IntegrityError) as error:
            _log.exception("the tick of a schedule failed, and the schedule is paused", id=due.id)
            await connection.execute(_PAUSE, {"id": due.id, "error": f"{type(error).__name__}: {error}".strip()})
    return True


_PAUSE = "UPDATE analysis_schedules SET next_tick = NULL, last_error = %(error)s WHERE id = %(id)s"


async def _tick(connection: Connection, due: _Due) -> None:
    timing = read_timing(due)
    tick = timing.cron.latest(due.next_tick, due.now)
    values = {"id": due.id, "tick": tick, "following": timing.cron.after(due.now)}
    if (await connection.execute(_TICK, values)).rowcount:
        callback = Callback(due.callback, due.callback_owner) if due.callback is not None else None
        queued = await enqueue(connection, due.device_id, timing.period(tick), timing.figures, callback)
        await connection.execute(_POINT, values | {"request_id": queued.id})
        _log.info("a schedule ticked", id=due.id, tick=tick.isoformat(), request=queued.id)
    await connection.execute(_MOVE_ON, values)


# The device is locked too, as enqueue locks it. So its deletion waits for the tick, and not vice versa.
_DUE = """
    SELECT schedule.id, device_id, cron, timezone, period, align, figures, callback, callback_owner,
           next_tick, now() AS now
    FROM analysis_schedules AS schedule JOIN devices AS device ON device.id = device_id
    WHERE next_tick <= now()
    ORDER BY next_tick
    LIMIT 1
    FOR UPDATE OF schedule SKIP LOCKED
    FOR KEY SHARE OF device SKIP LOCKED
"""


async def _lock_one(connection: Connection) -> _Due | None:
    async with connection.cursor(row_factory=class_row(_Due)) as cursor:
        return await (await cursor.execute(_DUE)).fetchone()


# A tick is not run twice if the database's clock is set back.
_TICK = "INSERT INTO analysis_ticks (schedule_id, tick) VALUES (%(id)s, %(tick)s) ON CONFLICT DO NOTHING"
_POINT = "UPDATE analysis_ticks SET request_id = %(request_id)s WHERE schedule_id = %(id)s AND tick = %(tick)s"
_MOVE_ON = "UPDATE analysis_schedules SET next_tick = %(following)s, last_tick = %(tick)s WHERE id = %(id)s"
