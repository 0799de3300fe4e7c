"""Route of the ticks of a schedule, with the results of their analyses."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from psycopg.rows import dict_row

from query_api.access.rules import Permission
from query_api.analyses.schedules.fields import ScheduleTick
from query_api.analyses.schedules.handlers import ScheduleId, find_schedule
from query_api.calendar.period import Period
from query_api.web.answers import problems
from query_api.web.answers.problems import documented
from query_api.web.dependencies import Slow
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from shared.event_loop.parts import mapped_rows
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds, to_datetime, to_microseconds

_LATEST = to_microseconds(datetime.max.replace(tzinfo=UTC))


class _TicksBefore(msgspec.Struct, frozen=True, array_like=True, tag="ticks"):
    schedule_id: int
    tick: Annotated[Microseconds, msgspec.Meta(ge=0, le=_LATEST)]


@get(
    "/{schedule_id:str}/ticks",
    permission=Permission.READ,
    summary="List the ticks of a schedule",
    response_description="A page of ticks.",
    response_headers=paging.HEADERS,
    responses=documented(problems.REVERSED_PERIOD, problems.BAD_CURSOR, problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def list_ticks(
    request: JsonRequest,
    schedule_id: ScheduleId,
    slow_reads: Slow,
    period: NamedDependency[Period],
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[ScheduleTick]]:
    """The ticks, newest first, each with its request and the figures of its result.

    `start` and `end` of the query select by the time of the tick; those of an item are the period of its analysis.
    RESULTS_KEEP deletes old ticks.
    """
    before = paging.decode(cursor, _TicksBefore, schedule_id=schedule_id)
    async with slow_reads.connection(request) as connection:
        await find_schedule(connection, schedule_id)
        found = await select(connection, schedule_id, period, to_datetime(before.tick) if before else None, limit + 1)
    return paging.page(request, found, limit, lambda last: _TicksBefore(schedule_id, to_microseconds(last.tick)))


_SELECT = """
    SELECT tick, request.id AS request_id, status, last_error, lower(period) AS start, upper(period) AS "end", x, y, z
    FROM analysis_ticks
    LEFT JOIN analysis_requests AS request ON request.id = analysis_ticks.request_id
    LEFT JOIN analysis_results AS result ON result.request_id = request.id
    WHERE schedule_id = %(schedule_id)s AND tick >= coalesce(%(start)s::timestamptz, '-infinity')
      AND tick <= coalesce(%(end)s::timestamptz, 'infinity') AND tick < coalesce(%(before)s::timestamptz, 'infinity')
    ORDER BY tick DESC
    LIMIT %(limit)s
"""


async def select(
    connection: Connection, schedule_id: int, period: Period, before: datetime | None, limit: int
) -> list[ScheduleTick]:
    """Return the ticks of the period before a time, newest first."""
    values = {
        "schedule_id": schedule_id, "start": period.start, "end": period.end, "before": before, "limit": limit,
    }  # fmt: skip
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SELECT, values)
        return await mapped_rows(cursor, lambda row: msgspec.convert(row, ScheduleTick))
