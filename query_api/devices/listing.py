"""Routes of lists of devices: a page of them, and their number by state."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
import numpy as np
from litestar import Response, get
from litestar.datastructures import ResponseHeader
from litestar.params import QueryParameter

from query_api.access.rules import Permission
from query_api.devices.activity import Activity, State, read_activity, updated_at
from query_api.devices.counting import count_states, total
from query_api.devices.ordering import Order, Ordered, find_ordered
from query_api.devices.record import Device
from query_api.devices.registration import Row
from query_api.devices.search import find
from query_api.errors import Fault
from query_api.ids import MAX_ID
from query_api.readings.summaries import ReadingSummary, summarize
from query_api.web.answers import problems
from query_api.web.answers.problems import documented, invalid
from query_api.web.dependencies import Slow
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from shared.event_loop.parts import mapped
from shared.postgres.connections import Connection

TOTAL, UPDATED_AT = "X-Total-Count", "X-Activity-Updated-At"
_HEADERS = [
    *paging.HEADERS,
    ResponseHeader(TOTAL, value="", description="The number of devices on all pages.", documentation_only=True),
    ResponseHeader(
        UPDATED_AT,
        value="",
        description="For a list by `state`, `last_seen` or `rate`: a time to which its figures are complete. Absent "
        "until a worker has looked at all devices once.",
        documentation_only=True,
    ),
]
Search = Annotated[
    str | None,
    QueryParameter(max_length=200, description="Return devices whose name or key contains this text, ignoring case."),
]
_TIMELESS = {Order.ID, Order.ID_DESC, Order.NAME, Order.NAME_DESC}
"""Orders that do not depend on readings."""


class _DevicesAfter(msgspec.Struct, frozen=True, array_like=True, tag="devices"):
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


@get(
    "/",
    permission=Permission.READ,
    summary="List devices",
    response_description="A page of devices.",
    response_headers=_HEADERS,
    responses=documented(problems.BAD_CURSOR, problems.INVALID_VALUE),
)
async def list_devices(
    request: JsonRequest,
    slow_reads: Slow,
    search: Search = None,
    order: Annotated[
        Order,
        QueryParameter(
            description="What the devices are sorted by; a minus reverses the order. name: by the characters of the "
            "name in lower case. last_seen: the time of the last reading, or of its receipt if that was earlier; "
            "devices without readings are first. state: live, late, silent, never. Equal devices are sorted by id, in "
            "the same direction."
        ),
    ] = Order.ID,
    states: Annotated[
        list[State] | None,
        QueryParameter(name="state", description="Return devices of this state. It may be repeated."),
    ] = None,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[Device]]:
    """Devices in the order of their ids, unless `order` names another.

    A list by `state`, `last_seen` or `rate` uses figures that a worker computes every few seconds. So for some seconds
    a device may have another state than the list. The `state` of each device is current.
    """
    _check(search)
    listed = Ordered(order, list(dict.fromkeys(states or State)), search)
    async with slow_reads.connection(request) as connection:
        rows, headers = await _page(connection, request, listed, cursor, limit)
        is_whole = cursor is None and len(rows) <= limit
        count = len(rows) if is_whole else await total(connection, listed.states, search)
        if states or order not in _TIMELESS:
            headers |= await _updated(connection)
        devices = await described(connection, rows[:limit])
    return Response(devices, headers={**headers, TOTAL: str(count)})


def _check(search: str | None) -> None:
    if search is not None and "\0" in search:
        raise invalid(Fault("search", "contains a NUL character, which no name and no key has"))


async def _page(
    connection: Connection, request: JsonRequest, listed: Ordered, cursor: str | None, limit: int
) -> tuple[Sequence[Row], dict[str, str]]:
    """Return up to `limit` devices and one more, and the headers with the next page."""
    if listed.order is Order.ID and len(listed.states) == len(State):
        after = paging.decode(cursor, _DevicesAfter) or _DevicesAfter(0)
        rows = await find(connection, listed.search, after.id, limit + 1)
        return rows, paging.next_page(request, rows, limit, lambda row: _DevicesAfter(row.id))
    position = paging.decode(cursor, listed.kind, order=listed.order)
    ordered = await find_ordered(connection, listed, position, limit + 1)
    return ordered, paging.next_page(request, ordered, limit, listed.position)


async def _updated(connection: Connection) -> dict[str, str]:
    moment = await updated_at(connection)
    if moment is None:
        return {}
    return {UPDATED_AT: str(np.datetime_as_string(np.datetime64(moment.replace(tzinfo=None), "us"), timezone="UTC"))}


async def described(connection: Connection, rows: Sequence[Row]) -> list[Device]:
    """Return the devices of the rows, with the readings and the activity of each."""
    ids = [row.id for row in rows]
    short = await summarize(connection, ids)
    activity = await read_activity(connection, ids)
    return await mapped(rows, lambda row: _device(row, short[row.id], activity[row.id]))


def _device(row: Row, short: ReadingSummary, activity: Activity) -> Device:
    latest_at = short.latest.timestamp if short.latest else None
    state = activity.state(latest_at)
    return Device(
        id=row.id,
        key=row.key,
        name=row.name,
        created_at=row.created_at,
        readings=short.count,
        readings_is_estimate=short.is_estimate,
        readings_at_least=short.at_least,
        first_reading_at=short.first_at,
        last_reading_at=latest_at,
        latest_reading=short.latest,
        state=state,
        expected_interval=activity.interval.total_seconds() if activity.interval else None,
        rate=activity.rate if state in (State.LIVE, State.LATE) else 0.0,
    )


class DeviceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The number of devices of each state. `updated_at`: null until a worker has looked at all devices once."""

    live: Annotated[int, msgspec.Meta(ge=0)]
    late: Annotated[int, msgspec.Meta(ge=0)]
    silent: Annotated[int, msgspec.Meta(ge=0)]
    never: Annotated[int, msgspec.Meta(ge=0)]
    updated_at: Annotated[
        datetime | None,
        msgspec.Meta(
            description="A time to which the figures are complete. Null until a worker has looked at all devices once."
        ),
    ]


@get(
    "/states",
    permission=Permission.READ,
    summary="Count devices by state",
    response_description="The number of devices of each state.",
    responses=documented(problems.INVALID_VALUE),
)
async def count_by_state(request: JsonRequest, slow_reads: Slow, search: Search = None) -> DeviceCounts:
    """The number of devices that `GET /devices?state=…` lists, by figures that a worker computes every few seconds."""
    _check(search)
    async with slow_reads.connection(request) as connection:
        counts = await count_states(connection, search)
        return DeviceCounts(
            live=counts[State.LIVE],
            late=counts[State.LATE],
            silent=counts[State.SILENT],
            never=counts[State.NEVER],
            updated_at=await updated_at(connection),
        )
