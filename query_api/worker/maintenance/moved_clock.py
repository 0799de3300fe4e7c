"""Correct times that were set before the database's clock was set back.

A lease, a retry or a tick that was set by a clock two hours ahead would delay its request by two hours. Each has a
maximum delay. A time that is further ahead than twice this delay was set by a wrong clock, and is computed again.
"""

import msgspec
import structlog

from query_api.calendar.cron import Cron
from query_api.calendar.zones import read_zone
from query_api.queue import callbacks
from query_api.queue import claims as queue
from shared.postgres.connections import Connection

_log = structlog.get_logger()

BATCH_ROWS = 1000
"""Most schedules that one run corrects."""

_LEASES = """
    UPDATE analysis_requests SET lease_until = now() + %(lease)s
    WHERE id IN (SELECT id FROM analysis_requests WHERE status = 'running' AND lease_until > now() + 2 * %(lease)s
                 FOR UPDATE SKIP LOCKED)
"""
_RETRIES = """
    UPDATE analysis_requests SET run_after = now() + %(cap)s
    WHERE id IN (SELECT id FROM analysis_requests
                 WHERE status = 'queued' AND run_after IS NOT NULL AND run_after > now() + 2 * %(cap)s
                 FOR UPDATE SKIP LOCKED)
"""
# The delay of a callback grows with its attempts.
_CALLBACKS = """
    UPDATE analysis_callbacks AS callback SET due_at = now() + longest
    FROM (SELECT id, least(%(cap)s, greatest(%(lease)s, %(base)s * %(factor)s ^ greatest(attempts - 1, 0))) AS longest
          FROM analysis_callbacks WHERE status = 'waiting' AND due_at > now() + 2 * %(lease)s
          FOR UPDATE SKIP LOCKED) AS waiting
    WHERE callback.id = waiting.id AND due_at > now() + 2 * longest
"""


async def correct(connection: Connection) -> None:
    """Correct the times that are too far ahead."""
    corrected = {
        "leases": (await connection.execute(_LEASES, {"lease": queue.LEASE})).rowcount,
        "retries": (await connection.execute(_RETRIES, {"cap": queue.RETRIES.cap})).rowcount,
        "callbacks": (await connection.execute(_CALLBACKS, _CALLBACK_WAITS)).rowcount,
        "schedules": await _correct_schedules(connection),
    }
    if any(corrected.values()):
        _log.warning("the clock of the database was set back: leases, retries and ticks were corrected", **corrected)


_CALLBACK_WAITS = {"lease": callbacks.LEASE, **msgspec.structs.asdict(callbacks.RETRIES)}

# A last tick in the future was set by a wrong clock.
_AHEAD = """
    SELECT id, cron, timezone, now() FROM analysis_schedules
    WHERE last_tick > now() AND next_tick IS NOT NULL
    ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
"""
# Recorded ticks are kept, and are not run again.
_NEXT = """
    UPDATE analysis_schedules
    SET next_tick = %(following)s,
        last_tick = (SELECT max(tick) FROM analysis_ticks WHERE schedule_id = %(id)s AND tick <= %(now)s)
    WHERE id = %(id)s
"""


async def _correct_schedules(connection: Connection) -> int:
    async with connection.transaction():
        ahead = await (await connection.execute(_AHEAD, (BATCH_ROWS,))).fetchall()
        for schedule_id, cron, timezone, now in ahead:
            following = Cron(cron, read_zone(timezone)).after(now)
            await connection.execute(_NEXT, {"id": schedule_id, "following": following, "now": now})
    return len(ahead)
