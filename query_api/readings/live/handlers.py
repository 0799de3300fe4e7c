"""Routes that stream the readings of devices as server-sent events while they are stored."""

from collections.abc import Sequence
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
from query_api.ids import require_device, require_devices
from query_api.readings.live.feeds import Live
from query_api.readings.live.listeners import Gap
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, documented
from query_api.web.dependencies import Database, DeviceId
from query_api.web.limits.callers import caller_of
from query_api.web.requests.device_ids import SeveralOperation, parse_ids, several
from query_api.web.resource import Resource

MAX_DEVICES = 100
"""On one stream."""
MEDIA_TYPE = "text/event-stream"
_STATE = "listener"
_EVENTS = """\
- `reading`: `data` is the reading as in GET /stats/{device_id}, and `id` its id. No reading is sent twice.
- `gap`: readings from `since` on may be missing; `detail` has the reason. Get them with GET
  /stats/{device_id}. On a stream of several devices, `device_id` is the device; without it, all of them are meant.
- `removed`: on a stream of several devices, the device `device_id` was deleted. The stream continues without it.
- `dropped`: `count` readings from `since` on are missing, as the client reads too slowly.
- `end`: the last event; do not reconnect. `detail` has the reason: the device was deleted, the key was revoked or has
  expired, or the session has ended.
- `interrupted`: the last event, after the key could not be checked for ten seconds. Reconnect; the new stream begins
  with a gap.
- `heartbeat`: sent after 15 seconds without an event, so that the client notices a lost connection. `time` is the time
  of the service.

Readings are sent only within a second of a successful check of the key. While the database does not respond, they are
held back until the next successful check.
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

event: heartbeat
data: {"time":"2026-01-31T12:00:24.600000Z"}

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


@dataclass
class _SeveralLiveOperation(SeveralOperation, _LiveOperation):
    """Documents the stream and the required parameter."""

    def __post_init__(self) -> None:
        SeveralOperation.__post_init__(self)
        _LiveOperation.__post_init__(self)


_HEADERS = [
    ResponseHeader("Cache-Control", value="no-store", description="A stream cannot be cached."),
    ResponseHeader("X-Accel-Buffering", value="no", description="Proxies do not buffer the stream."),
]
LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        description="A browser sends it when it reconnects. The stream is not resumed, and begins with a gap.",
    ),
]


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
    response_headers=_HEADERS,
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def listen(
    request: AnyRequest,
    device_id: DeviceId,
    database: Database,
    live: NamedDependency[SkipValidation[Live]],
    last_event_id: LastEventId = None,
) -> Stream:
    """Readings that are stored after the start of the response, from MQTT and HTTP.

    They are [server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html), which a browser reads
    with `EventSource`. Earlier readings are not sent.
    """
    async with database.connection() as connection:
        await require_device(connection, device_id)
    return await _stream(request, live, [device_id], last_event_id)


@get(
    "/live",
    permission=Permission.READ,
    summary="Stream several devices' readings",
    operation_class=_SeveralLiveOperation,
    after_response=leave,
    media_type=MEDIA_TYPE,
    response_description="A stream of events.",
    response_headers=_HEADERS,
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def listen_to_several(
    request: AnyRequest,
    database: Database,
    live: NamedDependency[SkipValidation[Live]],
    device_id: Annotated[list[str] | None, several(MAX_DEVICES)] = None,
    last_event_id: LastEventId = None,
) -> Stream:
    """The events of GET /stats/{device_id}/live for up to 100 devices on one stream.

    The stream counts as one stream, and a browser needs one connection for it. The deletion of a device does not end
    the stream, unless it was the last one.
    """
    devices = parse_ids(device_id, MAX_DEVICES)
    async with database.connection() as connection:
        await require_devices(connection, devices)
    return await _stream(request, live, devices, last_event_id, names_devices=True)


async def _stream(
    request: AnyRequest, live: Live, devices: Sequence[int], last_event_id: str | None, *, names_devices: bool = False
) -> Stream:
    given = None if request.auth is ANYBODY else shown(request.scope["headers"], request.scope["scheme"])
    credential = None if given is None else given.text
    listener = await live.join(devices, caller_of(request.scope), credential, names_devices=names_devices)
    request.scope["state"][_STATE] = live, listener
    if last_event_id is not None:
        listener.tell(Gap("the stream was interrupted"))
    return Stream(listener.events(), media_type=MEDIA_TYPE)


router = Resource("/stats", route_handlers=[listen, listen_to_several], tags=["readings"])
