"""Route of the number of dead letters by reason over time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from query_api.access.rules import Permission
from query_api.calendar.intervals import PATTERN, Interval, edges, in_zone
from query_api.calendar.period import Period
from query_api.calendar.zones import read_zone
from query_api.errors import Fault, displayed
from query_api.web.answers import problems
from query_api.web.answers.problems import documented, invalid
from query_api.web.dependencies import Slow
from query_api.web.operating.dead_letters.records import Reasons
from query_api.web.operating.dead_letters.selecting import Topic, require_topic_filter
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from query_api.web.requests.times import Timezone
from shared.dead_letters.selection import Selection, parameters, where
from shared.event_loop.parts import mapped_rows
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds, to_datetime, to_microseconds

MAX_UNITS = 10_000
"""Days, or longer units, of one statement."""
_LATEST = to_microseconds(datetime.max.replace(tzinfo=UTC))


class DeadLetterCount(msgspec.Struct, frozen=True, kw_only=True):
    """What was refused in an interval."""

    start: Annotated[
        datetime, msgspec.Meta(description="The start of the interval, included, with the offset of the timezone.")
    ]
    end: Annotated[datetime, msgspec.Meta(description="The end of the interval, excluded: the start of the next one.")]
    messages: Annotated[
        int, msgspec.Meta(description="Number of messages of which readings were refused.", examples=[1])
    ]
    reasons: Reasons


class _CountsAfter(msgspec.Struct, frozen=True, array_like=True, tag="dead-letter-counts"):
    interval: str
    timezone: str
    topic: str | None
    end: Annotated[Microseconds, msgspec.Meta(ge=0, le=_LATEST)]


@get(
    "/counts",
    permission=Permission.ADMINISTER,
    summary="Count dead letters over time",
    response_description="A page of intervals.",
    response_headers=paging.HEADERS,
    responses=documented(problems.REVERSED_PERIOD, problems.BAD_CURSOR, problems.INVALID_VALUE),
)
async def count_dead_letters(
    request: JsonRequest,
    slow_reads: Slow,
    period: NamedDependency[Period],
    interval: Annotated[
        str,
        QueryParameter(
            schema_extra={"pattern": PATTERN},  # documented here, enforced by Interval.parse
            description="An ISO 8601 duration with one unit, such as P1D, PT1H or PT5M.",
        ),
    ] = "PT1H",
    topic: Topic = None,
    timezone: Timezone = "UTC",
    limit: paging.Limit = 1000,
    cursor: paging.Cursor = None,
) -> Response[Sequence[DeadLetterCount]]:
    """The number of refused readings by reason, for each interval that has any, in order.

    Messages beyond DEAD_LETTERS_PER_MINUTE are counted at the time of the first one of their minute.
    """
    require_topic_filter(topic)
    length, zone = _interval(interval), read_zone(timezone)  # provide_period has refused an unknown one
    after = paging.decode(cursor, _CountsAfter, interval=interval, timezone=timezone, topic=topic)
    since = max(filter(None, (period.start, to_datetime(after.end) if after else None)), default=None)
    wanted = Selection(since=since, until=period.end, topic=topic)
    async with slow_reads.connection(request) as connection:
        found = await counts(connection, wanted, length, zone, limit + 1)

    def key(last: DeadLetterCount) -> _CountsAfter:
        return _CountsAfter(interval, timezone, topic, to_microseconds(last.end))

    return paging.page(request, found, limit, key)


def _interval(text: str) -> Interval:
    """Raises Refused."""
    try:
        return Interval.parse(text)
    except ValueError as error:
        raise invalid(Fault("interval", f"{error}, got {displayed(text)}")) from None


_BOUNDS = "SELECT min(received_at), max(received_at) FROM dead_letters"
_LETTERS = """
    WITH calendar AS (SELECT %(edges)s::timestamptz[] AS edges),
    letter AS (
        SELECT coalesce(date_bin(%(step)s::interval, received_at, edges[unit]), edges[unit]) AS starts,
               edges[unit + 1] AS unit_ends, messages, reasons
        FROM dead_letters CROSS JOIN calendar CROSS JOIN LATERAL width_bucket(received_at, edges) AS unit
"""
_COUNTS = """
          AND received_at < %(behind)s
    ), part AS (
        SELECT starts, least(starts + %(step)s::interval, min(unit_ends)) AS ends, sum(messages)::bigint AS messages
        FROM letter GROUP BY starts ORDER BY starts LIMIT %(limit)s
    ), counted AS (
        SELECT starts, key, sum(value::bigint) AS readings
        FROM letter JOIN part USING (starts) CROSS JOIN LATERAL jsonb_each_text(reasons) GROUP BY starts, key
    )
    SELECT starts, ends, part.messages, jsonb_object_agg(key, readings)
    FROM part JOIN counted USING (starts) GROUP BY starts, ends, part.messages ORDER BY starts
"""


async def counts(
    connection: Connection, wanted: Selection, interval: Interval, zone: ZoneInfo, limit: int
) -> list[DeadLetterCount]:
    """Return the first intervals that have selected dead letters. More may follow those of some thousand days."""
    found: list[DeadLetterCount] = []
    while len(found) < limit:
        row = await (await connection.execute(_BOUNDS + where(wanted), parameters(wanted))).fetchone()
        assert row is not None, "an aggregate has one row"
        if row[0] is None:
            break
        calendar = edges(interval, zone, row[0], row[1], MAX_UNITS)
        values = {
            **parameters(wanted), "edges": calendar, "behind": calendar[-1], "step": interval.step,
            "limit": limit - len(found),
        }  # fmt: skip
        rows = await connection.execute(_LETTERS + where(wanted) + _COUNTS, values, prepare=False)
        found += await mapped_rows(rows, lambda row: _count(zone, *row))
        if calendar[-1] > row[1]:
            break
        wanted = msgspec.structs.replace(wanted, since=calendar[-1])
    return found


def _count(
    zone: ZoneInfo, start: datetime, end: datetime, messages: int, reasons: Mapping[str, int]
) -> DeadLetterCount:
    return DeadLetterCount(start=in_zone(start, zone), end=in_zone(end, zone), messages=messages, reasons=reasons)
