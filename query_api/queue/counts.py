"""The number of requests by status."""

from datetime import datetime
from typing import Annotated

import msgspec
from psycopg.rows import class_row

from query_api.calendar.period import Period
from shared.postgres.connections import Connection


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The number of queued analyses by status."""

    queued: Annotated[int, msgspec.Meta(description="Number of queued requests, at any time.", examples=[3])]
    running: Annotated[int, msgspec.Meta(description="Number of running requests, at any time.", examples=[1])]
    done: Annotated[int, msgspec.Meta(description="Number of those that were done in the period.", examples=[120])]
    failed: Annotated[int, msgspec.Meta(description="Number of those that failed in the period.", examples=[2])]
    cancelled: Annotated[
        int, msgspec.Meta(description="Number of those that were cancelled in the period.", examples=[0])
    ]
    oldest_queued_at: Annotated[
        datetime | None,
        msgspec.Meta(description="Time at which the queued request that has waited longest was queued; null if none."),
    ]


_COUNTS = """
    WITH active AS (
        SELECT status, count(*), min(created_at) AS oldest FROM analysis_requests AS request
        WHERE status IN ('queued', 'running') AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
        GROUP BY status
    ), ended AS (
        SELECT status, count(*) FROM analysis_requests AS request
        WHERE finished_at >= coalesce(%(start)s::timestamptz, '-infinity')
          AND finished_at <= coalesce(%(end)s::timestamptz, 'infinity')
          AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
        GROUP BY status
    )
    SELECT coalesce((SELECT count FROM active WHERE status = 'queued'), 0) AS queued,
           coalesce((SELECT count FROM active WHERE status = 'running'), 0) AS running,
           coalesce((SELECT count FROM ended WHERE status = 'done'), 0) AS done,
           coalesce((SELECT count FROM ended WHERE status = 'failed'), 0) AS failed,
           coalesce((SELECT count FROM ended WHERE status = 'cancelled'), 0) AS cancelled,
           (SELECT oldest FROM active WHERE status = 'queued') AS oldest_queued_at
"""


async def count_by_status(connection: Connection, period: Period) -> RequestCounts:
    """Count the requests. The period selects those that have ended, by the time of their end."""
    values = {"start": period.start, "end": period.end}
    async with connection.cursor(row_factory=class_row(RequestCounts)) as cursor:
        counts = await (await cursor.execute(_COUNTS, values)).fetchone()
    assert counts is not None, "a SELECT without FROM has one row"
    return counts
