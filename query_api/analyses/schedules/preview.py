"""Route of the ticks that a schedule would have, before it is created or changed."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import QueryParameter

from query_api.access.rules import Permission
from query_api.analyses.schedules.fields import PlannedTick, PlannedTimes, SchedulePreview
from query_api.analyses.schedules.timing import Timing, read_timing
from query_api.calendar import cron, durations
from query_api.calendar.cron_words import in_words
from query_api.web.answers import problems
from query_api.web.answers.problems import documented
from query_api.web.dependencies import Database
from query_api.web.requests.bodies import decode

TICKS = 5


@get(
    "/preview",
    permission=Permission.READ,
    summary="Preview the ticks of a schedule",
    response_description="The cron expression in words, and its next ticks.",
    responses=documented(problems.INVALID_VALUE),
)
async def preview_schedule(
    database: Database,
    cron: Annotated[
        str,
        QueryParameter(
            schema_extra={
                "min_length": 1,
                "max_length": cron.MAX_LENGTH,
                "format": "cron",
                "pattern": cron.FIVE_FIELDS,
            },
            description="Cron expression, as of a schedule.",
        ),
    ],
    timezone: Annotated[
        str, QueryParameter(schema_extra={"format": "timezone"}, description="Time zone, as of a schedule.")
    ] = "UTC",
    length: Annotated[
        str | None,
        QueryParameter(
            name="period",
            schema_extra={"format": "duration", "max_length": durations.MAX_LENGTH},
            description="Length of the period, as of a schedule. Default: all time.",
        ),
    ] = None,
    align: Annotated[bool, QueryParameter(description="How the period ends, as of a schedule.")] = True,
) -> SchedulePreview:
    """Nothing is stored. Invalid values are refused with the errors that creating the schedule would have."""
    given = {"cron": cron, "timezone": timezone, "period": length, "align": align}
    timing = read_timing(decode(msgspec.json.encode(given), PlannedTimes))
    async with database.connection() as connection:
        (now,) = await (await connection.execute(_NOW)).fetchone() or ()
    return preview(timing, now)


_NOW = "SELECT now()"


def preview(timing: Timing, now: datetime) -> SchedulePreview:
    """Return the next ticks after `now`."""
    ticks = []
    for _ in range(TICKS):
        now = timing.cron.after(now)
        period = timing.period(now)
        ticks.append(PlannedTick(tick=now, start=period.start, end=period.end))
    return SchedulePreview(description=in_words(timing.cron.times), ticks=ticks)
