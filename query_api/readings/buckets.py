"""The five figures of a device's readings in each interval of time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from query_api.access.rules import Permission
from query_api.calendar.intervals import PATTERN, Interval, edges, in_zone
from query_api.calendar.period import Period
from query_api.calendar.zones import read_zone
from query_api.errors import Fault, displayed
from query_api.ids import MAX_ID, require_device
from query_api.readings.listing import bounds
from query_api.statistics.analysis import analyse_items
from query_api.statistics.blocks.reading.cover import ONE_PLAN
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.figures import FIVE, Figures
from query_api.statistics.source import Source
from query_api.web.answers import problems
from query_api.web.answers.problems import documented, invalid
from query_api.web.answers.sources import HEADER, Analysed
from query_api.web.dependencies import DeviceId, Slow
from query_api.web.disconnect import cancelled_when_gone
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from query_api.web.requests.times import Timezone
from query_api.web.resource import Resource
from shared.event_loop.parts import fetched
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.readings.model import Microseconds, to_datetime, to_microseconds

AT_ONCE = 200
"""Intervals that are analysed at once. The readings at their ends are some 10,000 each at most: 50 MB."""
MIN_UNITS, MAX_UNITS = 400, 1_000
"""Bounds of the number of calendar intervals in one statement. Their edges take some milliseconds to compute."""


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """An interval in which the device has readings."""

    start: Annotated[
        datetime, msgspec.Meta(description="The start of the interval, included, with the offset of the timezone.")
    ]
    end: Annotated[
        datetime,
        msgspec.Meta(description="The end of the interval, excluded: the start of the next one."),
    ]
    x: Figures
    y: Figures
    z: Figures


class _BucketsAfter(msgspec.Struct, frozen=True, array_like=True, tag="buckets"):
    """The end of the last bucket of a page, and the list that the page is of."""

    device_id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
    interval: str
    timezone: str
    end: Annotated[Microseconds, msgspec.Meta(ge=0, le=to_microseconds(datetime.max.replace(tzinfo=UTC)))]


@get(
    "/{device_id:str}/buckets",
    permission=Permission.READ,
    summary="Analyse a device's readings by intervals",
    response_description="A page of intervals.",
    response_headers=[*paging.HEADERS, HEADER],
    responses=documented(
        problems.REVERSED_PERIOD,
        problems.BAD_CURSOR,
        problems.NOT_FOUND,
        problems.INVALID_VALUE,
        problems.TOOK_TOO_LONG,
    ),
)
async def list_buckets(
    request: JsonRequest,
    device_id: DeviceId,
    slow_reads: Slow,
    analysed: Analysed,
    period: NamedDependency[Period],
    interval: Annotated[
        str,
        QueryParameter(
            schema_extra={"pattern": PATTERN},  # documented here, enforced by Interval.parse
            description="An ISO 8601 duration with one unit, such as P1Y, P3M, P1W, P1D, PT1H, PT15M or PT30S. Years, "
            "months, weeks (from Monday) and days begin at midnight in the timezone. Hours, minutes and seconds are "
            "counted from there, day by day.",
        ),
    ] = "PT1H",
    timezone: Timezone = "UTC",
    limit: paging.Limit = 1000,
    cursor: paging.Cursor = None,
) -> Response[Sequence[Bucket]]:
    """Return min, max, sum, count and median of each axis, for each interval that has readings, in order.

    An interval that begins before the period, or ends after it, counts only the readings of the period. A day on which
    the clocks change has 23 or 25 hours.
    """
    length, zone = _interval(interval), read_zone(timezone)  # provide_period has refused an unknown one
    after = paging.decode(cursor, _BucketsAfter, device_id=device_id, interval=interval, timezone=timezone)
    source = Source()
    async with slow_reads.connection(request) as connection, cancelled_when_gone(request), snapshot(connection):
        await require_device(connection, device_id)
        start = to_datetime(after.end) if after else None
        found = await select(connection, device_id, period, start, length, zone, limit + 1, source)

    def key(last: Bucket) -> _BucketsAfter:
        return _BucketsAfter(device_id, interval, timezone, to_microseconds(last.end))

    answer = paging.page(request, found, limit, key)
    answer.headers.update(analysed.counted(source))
    return answer


def _interval(text: str) -> Interval:
    """Raises Refused."""
    try:
        return Interval.parse(text)
    except ValueError as error:
        raise invalid(Fault("interval", f"{error}, got {displayed(text)}")) from None


async def select(
    connection: Connection,
    device_id: int,
    period: Period,
    start: datetime | None,
    interval: Interval,
    zone: ZoneInfo,
    limit: int,
    source: Source | None = None,
) -> list[Bucket]:
    """Return the first buckets from `start` on, or of the whole period, in the caller's snapshot.

    `source`: the number of readings is added to it.
    """
    found: list[Bucket] = []
    while len(found) < limit:
        rest = Period(max(filter(None, (start, period.start)), default=None), period.end)
        within = await _bounds(connection, device_id, rest)
        if within is None:
            break
        calendar = edges(interval, zone, *within, min(max(limit, MIN_UNITS), MAX_UNITS))
        intervals = await _intervals(connection, device_id, within, calendar, interval, limit - len(found))
        for at in range(0, len(intervals), AT_ONCE):
            found += await _analysed(connection, device_id, within, intervals[at : at + AT_ONCE], zone, source)
        start = calendar[-1] if len(found) < limit else None
    return found


async def _bounds(connection: Connection, device_id: int, period: Period) -> tuple[datetime, datetime] | None:
    reversed_by_cursor = period.start is not None and period.end is not None and period.start > period.end
    return None if reversed_by_cursor else await bounds(connection, device_id, period)


# The recursion goes from each bucket to the first reading after it, and so skips empty buckets.
_STATEMENT = """
    WITH RECURSIVE calendar AS (SELECT %(edges)s::timestamptz[] AS edges),
    bucket (number, starts, ends) AS (
        SELECT 0, NULL::timestamptz, %(first)s::timestamptz
        UNION ALL
        SELECT number + 1, part.starts, least(part.starts + %(step)s::interval, edges[unit + 1])
        FROM bucket
        CROSS JOIN calendar
        CROSS JOIN LATERAL (
            SELECT recorded_at FROM readings
            WHERE device_id = %(device_id)s AND recorded_at >= bucket.ends
              AND recorded_at >= %(first)s AND recorded_at <= %(last)s AND recorded_at < %(behind)s
            ORDER BY recorded_at LIMIT 1
        ) AS next
        CROSS JOIN LATERAL width_bucket(next.recorded_at, edges) AS unit
        CROSS JOIN LATERAL (
            SELECT coalesce(date_bin(%(step)s::interval, next.recorded_at, edges[unit]), edges[unit]) AS starts
        ) AS part
        WHERE number < %(limit)s
    )
    SELECT starts, ends FROM bucket WHERE number > 0 ORDER BY number
"""


async def _intervals(
    connection: Connection,
    device_id: int,
    within: tuple[datetime, datetime],
    calendar: Sequence[datetime],
    interval: Interval,
    limit: int,
) -> list[tuple[datetime, datetime]]:
    """Return the first intervals that have readings."""
    first, last = within
    parameters = {
        "device_id": device_id, "first": first, "last": last, "behind": calendar[-1], "edges": list(calendar),
        "step": interval.step, "limit": limit,
    }  # fmt: skip
    return await fetched(await connection.execute(_STATEMENT, parameters, prepare=False))


async def _analysed(
    connection: Connection,
    device_id: int,
    within: tuple[datetime, datetime],
    intervals: Sequence[tuple[datetime, datetime]],
    zone: ZoneInfo,
    source: Source | None,
) -> list[Bucket]:
    """Return the buckets of the intervals: the readings in them that are within the bounds."""
    first, last = map(to_microseconds, within)
    starts = np.array([to_microseconds(start) for start, _ in intervals], np.int64)
    ends = np.array([to_microseconds(end) for _, end in intervals], np.int64) - 1
    count = len(intervals)
    devices = np.full(count, device_id, np.int64)
    items = Items(devices, np.maximum(starts, first), np.minimum(ends, last), np.arange(count), count)
    if not await is_distributed(connection):
        await connection.execute(ONE_PLAN, prepare=False)
    found = await analyse_items(connection, items, FIVE, source)
    return [
        Bucket(start=in_zone(start, zone), end=in_zone(end, zone), x=one.x, y=one.y, z=one.z)
        for (start, end), one in zip(intervals, found, strict=True)
    ]


router = Resource("/stats", route_handlers=[list_buckets], tags=["analysis"])
