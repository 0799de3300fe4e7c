"""Route that deletes dead letters."""

import time
from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import delete
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_200_OK

from query_api.access.rules import Permission
from query_api.calendar.period import Period
from query_api.errors import Fault, displayed
from query_api.ids import MAX_ID
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, documented, invalid
from query_api.web.dependencies import Slow, actor_of
from query_api.web.operating.dead_letters.selecting import (
    MAX_IDS,
    SUBJECT,
    WORK_S,
    Topic,
    WantedReason,
    recorded,
    require_topic_filter,
)
from shared.access import audit
from shared.access.audit import Action
from shared.dead_letters.letters import count, purge
from shared.dead_letters.selection import Selection
from shared.postgres.connections import Connection

PURGED_AT_ONCE = 1000
"""Dead letters that one statement deletes."""


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted."""

    deleted: Annotated[int, msgspec.Meta(description="Number of deleted dead letters.", examples=[2])]
    left: Annotated[int, msgspec.Meta(description="Number of selected dead letters that are left: repeat the request.")]


_IDS = QueryParameter(
    name="id",
    description=f"The dead letters with these ids, at most {MAX_IDS:,}. Repeat the parameter for each.",
    schema_extra={
        "one_of": None,
        "type": OpenAPIType.ARRAY,
        "min_items": 1,
        "max_items": MAX_IDS,
        "items": Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_ID, examples=[1]),
    },
)


@delete(
    "/",
    permission=Permission.ADMINISTER,
    status_code=HTTP_200_OK,
    summary="Purge dead letters",
    response_description="The number of deleted dead letters.",
    responses=documented(problems.REVERSED_PERIOD, problems.INVALID_VALUE, problems.TOOK_TOO_LONG),
)
async def purge_dead_letters(
    request: AnyRequest,
    slow_reads: Slow,
    period: NamedDependency[Period],
    ids: Annotated[list[str] | None, _IDS] = None,
    reason: WantedReason = None,
    topic: Topic = None,
    up_to: Annotated[
        int | None,
        QueryParameter(
            ge=1,
            le=MAX_ID,
            description="Those with ids up to this one, so that none is deleted that arrived after a list was read.",
        ),
    ] = None,
    everything: Annotated[
        bool, QueryParameter(description="true: delete all. Required without any other condition.")
    ] = False,
) -> Purged:
    """Delete dead letters that meet all conditions. They cannot be restored.

    A request deletes for five seconds.
    """
    require_topic_filter(topic)
    wanted = Selection(ids=_ids(ids), reason=reason, since=period.start, until=period.end, topic=topic, up_to=up_to)
    if wanted == Selection() and not everything:
        raise invalid(Fault("everything", "expected true, or a condition: id, reason, topic, start, end or up_to"))
    async with slow_reads.connection(request) as connection, connection.transaction():
        deleted = await _purged(connection, wanted, min(WORK_S, slow_reads.deadline_s / 2))
        left = (await count(connection, wanted)).letters
        await audit.record(
            connection, actor_of(request), Action.LETTERS_PURGED, SUBJECT, deleted=deleted, **recorded(wanted)
        )
    return Purged(deleted=deleted, left=left)


def _ids(given: Sequence[str] | None) -> list[int] | None:
    """Return the ids. Raises Refused for what no dead letter has as its id."""
    if given is None:
        return None
    if len(given) > MAX_IDS:
        raise invalid(Fault("id", f"expected at most {MAX_IDS:,}, got {len(given):,}"))
    faults = [Fault("id", f"expected an id, got {displayed(text)}") for text in given if not _is_id(text)]
    if faults:
        raise invalid(*faults)
    return [int(text) for text in given]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(MAX_ID)) and 0 < int(text) <= MAX_ID


async def _purged(connection: Connection, wanted: Selection, seconds: float) -> int:
    """Delete in steps until none is left or the time is over, in the caller's transaction."""
    deleted, ends = 0, time.monotonic() + seconds
    while True:
        step = await purge(connection, wanted, PURGED_AT_ONCE)
        deleted += step
        if step < PURGED_AT_ONCE or time.monotonic() > ends:
            return deleted
