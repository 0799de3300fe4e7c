"""Routes of dead letters: list, and get one."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import PathParameter, SkipValidation

from query_api.access.rules import Permission
from query_api.calendar.period import Period
from query_api.ids import MAX_ID, is_id
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Refused, documented
from query_api.web.dependencies import Slow
from query_api.web.operating.dead_letters.records import PREVIEW_BYTES, DeadLetter, WholeDeadLetter, shown, whole
from query_api.web.operating.dead_letters.selecting import Topic, WantedReason, require_topic_filter
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from shared.dead_letters.letters import newest, one
from shared.dead_letters.replaying import Decoder
from shared.dead_letters.selection import Selection
from shared.event_loop.parts import AT_ONCE_SLOW, mapped
from shared.readings.model import Microseconds, Reason, to_datetime, to_microseconds

_LATEST = to_microseconds(datetime.max.replace(tzinfo=UTC))


class _LettersBefore(msgspec.Struct, frozen=True, array_like=True, tag="dead-letters"):
    reason: Reason | None
    topic: str | None
    received_at: Annotated[Microseconds, msgspec.Meta(ge=0, le=_LATEST)]
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


@get(
    "/",
    permission=Permission.ADMINISTER,
    summary="List dead letters",
    response_description="A page of dead letters.",
    response_headers=paging.HEADERS,
    responses=documented(problems.REVERSED_PERIOD, problems.BAD_CURSOR, problems.INVALID_VALUE),
)
async def list_dead_letters(
    request: JsonRequest,
    slow_reads: Slow,
    period: NamedDependency[Period],
    reason: WantedReason = None,
    topic: Topic = None,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[DeadLetter]]:
    """Messages of which readings were refused, newest first, by the time of receipt."""
    require_topic_filter(topic)
    before = paging.decode(cursor, _LettersBefore, reason=reason, topic=topic)
    place = None if before is None else (to_datetime(before.received_at), before.id)
    wanted = Selection(reason=reason, since=period.start, until=period.end, topic=topic)
    async with slow_reads.connection(request) as connection:
        found = await newest(connection, wanted, limit + 1, before=place, preview=PREVIEW_BYTES)

    def key(last: DeadLetter) -> _LettersBefore:
        return _LettersBefore(reason, topic, to_microseconds(last.received_at), last.id)

    return paging.page(request, await mapped(found, shown, AT_ONCE_SLOW), limit, key)


@get(
    "/{letter_id:str}",
    permission=Permission.ADMINISTER,
    summary="Get a dead letter",
    response_description="The dead letter.",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def show_dead_letter(
    request: AnyRequest,
    letter_id: Annotated[int, PathParameter(description="Id of the dead letter.")],
    slow_reads: Slow,
    decoder: NamedDependency[SkipValidation[Decoder]],
) -> WholeDeadLetter:
    """The payload as text and as hexadecimal digits, what was wrong, and where in the payload."""
    found = None
    if is_id(letter_id):
        async with slow_reads.connection(request) as connection:
            found = await one(connection, letter_id)
    if found is None:
        raise Refused(
            problems.NOT_FOUND,
            f"there is no dead letter {letter_id}, or not any more: GET /dead-letters lists them",
        )
    return whole(found, decoder)
