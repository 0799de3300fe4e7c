"""Route that streams a device's readings as server-sent events while they are stored."""

from dataclasses import dataclass
from typing import Annotated

from litestar import get
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.params import HeaderParameter, SkipValidation
from litestar.response import Stream

from query_api.access.rules import ANYBODY, Permission
from query_api.access.shown import shown
from query_api.ids import require_device
from query_api.readings.live.feeds import Live
from query_api.readings.live.listeners import Gap
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, documented
from query_api.web.dependencies import Database, DeviceId
from query_api.web.limits.callers import caller_of
from query_api.web.resource import Resource

MEDIA_TYPE = "text/event-stream"
_STATE = "listener"
_EVENTS = """\
- `reading`: `data` is the reading as in GET /stats/{device_id}, and `id` its id. No reading is sent twice.
- `gap`: readings from `since` on may be missing; `detail` has the reason. Get them with GET /stats/{device_id}.
- `dropped`: `count` readings from `since` on are missing, as the client reads too slowly.
- `end`: the last event; do not reconnect. `detail` has the reason: the device was deleted, the key was revoked or has
  expired, or the session has ended.
- `interrupted`: the last event, after the key could not be checked for ten seconds. Reconnect; the new stream begins
  with a gap.

Readings are sent only within a second of a successful check of the key. While the database does not respond, they are
held back until the next successful check.

A comment is sent every 15 seconds without an event.
"""
_EXAMPLE = """\
retry: 2000

id: 17
event: reading
data: {"id":17,"device_id":1,"x":1.5,"y":-2.0,"z":300.0,"timestamp":"2026-01-31T12:00:00.25Z"}

event: gap
data: {"detail":"the database was unavailable","since":"2026-01-31T12:00:03Z"}

event: dropped
data: {"count":17,"since":"2026-01-31T12:00:09.5Z"}

"""


@dataclass
class _LiveOperation(Operation):
    """Documents the stream, of which Litestar knows only the media type."""

    def __post_init__(self) -> None:
        assert self.responses is not None
        answer = self.responses["200"]
        assert isinstance(answer, OpenAPIResponse)
        schema = Schema(type=OpenAPIType.STRING, description=_EVENTS)
        example = Example(summary="One event of each kind", value=_EXAMPLE)
        answer.content = {MEDIA_TYPE: OpenAPIMediaType(schema=schema, examples={"events": example})}


async def leave(request: AnyRequest) -> None:
    """Remove the listener after the response."""
    live, listener = request.scope["state"].pop(_STATE, (None, None))
    if live is not None:
        live.leave(listener)


@get(
    "/{device_id:str}/live",
    permission=Permission.READ,
    summary="Stream a device's readings",
    operation_class=_LiveOperation,
    after_response=leave,
    media_type=MEDIA_TYPE,
    response_description="A stream of events.",
    response_headers=[
        ResponseHeader("Cache-Control", value="no-store", description="A stream cannot be cached."),
        ResponseHeader("X-Accel-Buffering", value="no", description="Proxies do not buffer the stream."),
    ],
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def listen(
    request: AnyRequest,
    device_id: DeviceId,
    database: Database,
    live: NamedDependency[SkipValidation[Live]],
    last_event_id: Annotated[
        str | None,
        HeaderParameter(
            name="Last-Event-ID",
            description="A browser sends it when it reconnects. The stream is not resumed, and begins with a gap.",
        ),
    ] = None,
) -> Stream:
    """Readings that are stored after the start of the response, from MQTT and HTTP.

    They are [server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html), which a browser reads
    with `EventSource`. Earlier readings are not sent.
    """
    async with database.connection() as connection:
        await require_device(connection, device_id)
    given = None if request.auth is ANYBODY else shown(request.scope["headers"], request.scope["scheme"])
    listener = await live.join(device_id, caller_of(request.scope), None if given is None else given.text)
    request.scope["state"][_STATE] = live, listener
    if last_event_id is not None:
        listener.tell(Gap("the stream was interrupted"))
    return Stream(listener.events(), media_type=MEDIA_TYPE)


router = Resource("/stats", route_handlers=[listen], tags=["readings"])
