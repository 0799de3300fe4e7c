"""Route of the number of selected dead letters, such as before they are replayed or deleted."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import get
from litestar.di import NamedDependency

from query_api.access.rules import Permission
from query_api.calendar.period import Period
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, documented
from query_api.web.dependencies import Slow
from query_api.web.operating.dead_letters.selecting import Topic, WantedReason, require_topic_filter
from shared.dead_letters.letters import count
from shared.dead_letters.selection import Selection


class DeadLetterTotal(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of selected dead letters. The last three are null if there are none."""

    letters: Annotated[int, msgspec.Meta(description="Number of dead letters.", examples=[2])]
    readings: Annotated[int, msgspec.Meta(description="Number of their refused readings.", examples=[3])]
    newest_id: Annotated[
        int | None,
        msgspec.Meta(
            description="The highest id. As `up_to` of a replay or a deletion, it excludes those that arrive later.",
            examples=[7],
        ),
    ]
    first_received_at: Annotated[datetime | None, msgspec.Meta(description="The earliest time of receipt.")]
    last_received_at: Annotated[datetime | None, msgspec.Meta(description="The latest time of receipt.")]


@get(
    "/total",
    permission=Permission.ADMINISTER,
    summary="Count the selected dead letters",
    response_description="Their number.",
    responses=documented(problems.REVERSED_PERIOD, problems.INVALID_VALUE),
)
async def total_dead_letters(
    request: AnyRequest,
    slow_reads: Slow,
    period: NamedDependency[Period],
    reason: WantedReason = None,
    topic: Topic = None,
) -> DeadLetterTotal:
    """The number of dead letters that meet all conditions, and of their refused readings."""
    require_topic_filter(topic)
    wanted = Selection(reason=reason, since=period.start, until=period.end, topic=topic)
    async with slow_reads.connection(request) as connection:
        return msgspec.convert(await count(connection, wanted), DeadLetterTotal, from_attributes=True)
