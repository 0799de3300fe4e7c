"""Route of the audit log."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from query_api.access.rules import Permission
from query_api.calendar.period import Period
from query_api.errors import Fault
from query_api.ids import MAX_ID
from query_api.web.answers import problems
from query_api.web.answers.problems import documented, invalid
from query_api.web.dependencies import Slow
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from query_api.web.resource import Resource
from shared.access import audit
from shared.access.audit import Action, Filter
from shared.event_loop.parts import AT_ONCE_SLOW, mapped


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded action."""

    id: Annotated[int, msgspec.Meta(description="Id of the entry.", examples=[1])]
    recorded_at: Annotated[datetime, msgspec.Meta(description="Time of the action.")]
    actor: Annotated[
        str,
        msgspec.Meta(
            description="The prefix of a key, `cli:` and a user of the command, `anonymous` while AUTH is off, "
            "`unknown` for a refused sign-in, or `retention`.",
            examples=["dsk_k3v9q2xm"],
        ),
    ]
    origin: Annotated[
        str, msgspec.Meta(description="The client's address, or the host of the command.", examples=["192.0.2.7"])
    ]
    action: Annotated[str, msgspec.Meta(description="The action.", examples=["device.renamed"])]
    subject: Annotated[str, msgspec.Meta(description="What it was done to.", examples=["device 7"])]
    detail: Annotated[
        Mapping[str, Any], msgspec.Meta(description="Depends on the action.", examples=[{"name": "Boiler, north"}])
    ]
    database_role: Annotated[
        str, msgspec.Meta(description="The database role that wrote the entry.", examples=["devicestat_api"])
    ]


class _EntriesBefore(msgspec.Struct, frozen=True, array_like=True, tag="audit"):
    actor: str | None
    action: Action | None
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


@get(
    "/",
    permission=Permission.ADMINISTER,
    summary="List the audit log",
    response_description="A page of entries.",
    response_headers=paging.HEADERS,
    responses=documented(problems.REVERSED_PERIOD, problems.BAD_CURSOR, problems.INVALID_VALUE),
)
async def list_audit_entries(
    request: JsonRequest,
    slow_reads: Slow,
    period: NamedDependency[Period],
    actor: Annotated[
        str | None,
        QueryParameter(max_length=200, description="Return actions of this actor, such as the prefix of a key."),
    ] = None,
    action: Annotated[Action | None, QueryParameter(description="Return this kind of action.")] = None,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[AuditEntry]]:
    """Creations, changes, deletions, sign-ins, and replays and purges of dead letters, newest first.

    AUDIT_KEEP deletes old entries; nothing else changes or deletes any.
    """
    if actor is not None and "\0" in actor:
        raise invalid(Fault("actor", "contains a NUL character, which no actor has"))
    before = paging.decode(cursor, _EntriesBefore, actor=actor, action=action)
    wanted = Filter(actor=actor, action=action, start=period.start, end=period.end)
    async with slow_reads.connection(request) as connection:
        found = await audit.select(connection, wanted, before.id if before else MAX_ID, limit + 1)
    shown = await mapped(found, _shown, AT_ONCE_SLOW)
    return paging.page(request, shown, limit, lambda last: _EntriesBefore(actor, action, last.id))


def _shown(entry: audit.Entry) -> AuditEntry:
    return AuditEntry(**msgspec.structs.asdict(entry))


router = Resource("/audit", route_handlers=[list_audit_entries], tags=["access"])
