"""Route that replays dead letters."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.params import JSONBody, SkipValidation
from litestar.status_codes import HTTP_200_OK

from query_api.access.rules import Permission
from query_api.errors import Fault
from query_api.ids import MAX_ID
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Refused, documented, invalid
from query_api.web.dependencies import Slow, actor_of
from query_api.web.operating.dead_letters.outcomes import ReplayOutcome, replay_all, totals
from query_api.web.operating.dead_letters.selecting import (
    MAX_IDS,
    MAX_TOPIC,
    SUBJECT,
    TOPIC_RULE,
    WORK_S,
    recorded,
    require_topic_filter,
)
from query_api.web.requests.times import in_utc
from shared.access import audit
from shared.access.audit import Action
from shared.dead_letters.letters import count, numbers
from shared.dead_letters.replaying import Decoder
from shared.dead_letters.selection import Selection
from shared.readings.model import Reason

_Id = Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)]
_MOMENT_RULE = "RFC 3339, in UTC without an offset"


class Replays(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dead letters to replay: those that meet all conditions. Without conditions, all."""

    ids: (
        Annotated[
            list[_Id],
            msgspec.Meta(
                min_length=1,
                max_length=MAX_IDS,
                description=f"At most {MAX_IDS:,} ids.",
                extra={"takes": f"an array of 1 to {MAX_IDS:,} ids"},
                extra_json_schema={
                    "extra": {"items": Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_ID, examples=[1])}
                },
                examples=[[1, 2]],
            ),
        ]
        | None
    ) = None
    reason: (
        Annotated[
            Reason,
            msgspec.Meta(
                description="Those of which a reading was refused for this reason.",
                extra={"takes": f"one of {', '.join(Reason)}"},
                examples=["unknown_device"],
            ),
        ]
        | None
    ) = None
    start: (
        Annotated[
            datetime,
            msgspec.Meta(
                description=f"Those received at or after this time: {_MOMENT_RULE}.",
                extra={"takes": _MOMENT_RULE},
                examples=["2026-01-31T12:00:00Z"],
            ),
        ]
        | None
    ) = None
    end: (
        Annotated[
            datetime,
            msgspec.Meta(
                description=f"Those received at or before this time: {_MOMENT_RULE}.",
                extra={"takes": _MOMENT_RULE},
                examples=["2026-01-31T13:00:00Z"],
            ),
        ]
        | None
    ) = None
    topic: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=MAX_TOPIC,
                description=f"Those of these topics: {TOPIC_RULE}.",
                extra={"takes": TOPIC_RULE},
                examples=["devices/+/stats"],
            ),
        ]
        | None
    ) = None
    after: (
        Annotated[
            int,
            msgspec.Meta(
                ge=0,
                le=MAX_ID,
                description="Those with greater ids: `next_after` of the previous response, to continue.",
                extra={"takes": "an id"},
                examples=[7],
            ),
        ]
        | None
    ) = None
    up_to: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1,
                le=MAX_ID,
                description="Those with ids up to this one, so that none is replayed that arrived later.",
                extra={"takes": "an id"},
                examples=[7],
            ),
        ]
        | None
    ) = None
    limit: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=MAX_IDS,
            description="Maximum number to replay.",
            extra={"takes": f"a whole number from 1 to {MAX_IDS:,}"},
            examples=[100],
        ),
    ] = 100


class ReplayOutcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each."""

    outcomes: Annotated[list[ReplayOutcome], msgspec.Meta(description="In the order of the ids.")]
    left: Annotated[int, msgspec.Meta(description="Number of selected dead letters that were not replayed yet.")]
    next_after: Annotated[
        int | None, msgspec.Meta(description="To continue, send this as `after`; null if none are left.")
    ]


@post(
    "/replay",
    permission=Permission.ADMINISTER,
    status_code=HTTP_200_OK,
    summary="Replay dead letters",
    response_description="What became of each.",
    responses=documented(
        problems.REVERSED_PERIOD,
        problems.TOO_LARGE,
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.INVALID_VALUE,
        problems.TOOK_TOO_LONG,
    ),
)
async def replay_dead_letters(
    request: AnyRequest,
    data: JSONBody[Replays],
    slow_reads: Slow,
    decoder: NamedDependency[SkipValidation[Decoder]],
) -> ReplayOutcomes:
    """Decode and store the refused readings again, as the ingestor would now, each with its first time of receipt.

    Each dead letter is replayed in a transaction. Readings that are stored leave it; it is deleted with its last one.
    Replaying twice stores a reading once. A request replays for five seconds, and at least one. It does not wait for a
    dead letter that another replay or a purge holds. The audit log has an entry before the first one, and one at the
    end.
    """
    wanted = _selection(data)
    async with slow_reads.connection(request) as connection:
        found = await numbers(connection, wanted, data.limit)
        actor, selection = actor_of(request), recorded(wanted)
        if found:  # committed before the first dead letter, so that no replay is missing, however the request ends
            await audit.record(connection, actor, Action.REPLAY_BEGUN, SUBJECT, letters=len(found), **selection)
        seconds = min(WORK_S, slow_reads.deadline_s / 2)
        outcomes = await replay_all(connection, decoder, found, seconds, slow_reads.deadline_s)
        last = outcomes[-1].id if outcomes else 0
        rest = msgspec.structs.replace(wanted, after=max(last, wanted.after or 0))
        left = (await count(connection, rest)).letters
        await audit.record(connection, actor, Action.LETTERS_REPLAYED, SUBJECT, **totals(outcomes), **selection)
    return ReplayOutcomes(outcomes=outcomes, left=left, next_after=last if left else None)


def _selection(given: Replays) -> Selection:
    """Raises Refused."""
    require_topic_filter(given.topic)
    faults: list[Fault] = []
    moments: dict[str, datetime | None] = {}
    for name, moment in (("start", given.start), ("end", given.end)):
        try:
            moments[name] = None if moment is None else in_utc(moment)
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    if faults:
        raise invalid(*faults)
    start, end = moments["start"], moments["end"]
    if start is not None and end is not None and start > end:
        fault = Fault("start", f"{start.isoformat()} is after end, {end.isoformat()}: swap them")
        raise Refused(problems.REVERSED_PERIOD, f"{fault.field}: {fault.detail}", [fault])
    return Selection(
        ids=given.ids, reason=given.reason, since=start, until=end, topic=given.topic, after=given.after,
        up_to=given.up_to,
    )  # fmt: skip
