"""Routes of schedules, which are recurring analyses: create, list, get, change, delete.

`preview.py` and `ticks.py` have the others. `query_api/worker/ticks.py` queues their requests in `analysis_requests`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, LiteralString

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter, SkipValidation
from msgspec import UNSET
from psycopg.rows import dict_row

from query_api.access.rules import ANYBODY, Permission, Principal
from query_api.analyses.schedules.fields import NewSchedule, Schedule, ScheduleChanges
from query_api.analyses.schedules.timing import read_timing
from query_api.calendar.cron_words import describe
from query_api.errors import Fault
from query_api.ids import MAX_ID, is_id
from query_api.queue.addresses import CallbackRules
from query_api.queue.quotas import Quotas
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Refused, documented
from query_api.web.dependencies import Database, Slow, actor_of
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from shared.access import audit
from shared.access.audit import Action
from shared.event_loop.parts import mapped_rows
from shared.postgres.connections import Connection

_Rules = NamedDependency[SkipValidation[CallbackRules]]
ScheduleId = Annotated[int, PathParameter(description="Id of the schedule.")]


class _SchedulesAfter(msgspec.Struct, frozen=True, array_like=True, tag="schedules"):
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


@post(
    "/",
    permission=Permission.QUEUE,
    summary="Create a schedule",
    response_description="Created.",
    response_headers=[
        ResponseHeader("Location", value="", description="The path of the schedule.", documentation_only=True)
    ],
    responses=documented(
        problems.UNKNOWN_DEVICE, problems.TOO_LARGE, problems.UNSUPPORTED_MEDIA_TYPE, problems.INVALID_VALUE
    ),
)
async def create_schedule(
    request: AnyRequest,
    data: JSONBody[NewSchedule],
    database: Database,
    callback_rules: _Rules,
    quotas: NamedDependency[SkipValidation[Quotas]],
) -> Response[Schedule]:
    """Each tick queues one analysis, regardless of the number of workers.

    If ticks were missed while no worker ran, only the latest one is run.
    """
    if data.callback is not None:
        callback_rules.require(data.callback)
    async with database.connection() as connection, connection.transaction():
        await quotas.take_turn(connection, request.auth)
        made = await insert(connection, data, request.auth)
        await quotas.require_schedules(connection, request.auth)
        await audit.record(
            connection, actor_of(request), Action.SCHEDULE_CREATED, f"schedule {made.id}", device_id=made.device_id
        )
    return Response(made, headers={"Location": f"/stats/analysis/schedules/{made.id}"})


_NOW = "SELECT now()"
# The lock keeps a concurrent transaction from deleting the device.
_INSERT = """
    INSERT INTO analysis_schedules (device_id, cron, timezone, period, align, figures, callback, name, next_tick,
                                    owner, callback_owner)
    SELECT id, %(cron)s, %(timezone)s, %(period)s, %(align)s, %(figures)s, %(callback)s, %(name)s,
           %(next_tick)s::timestamptz, %(owner)s, %(owner)s
    FROM devices WHERE id = %(device_id)s FOR KEY SHARE
    RETURNING id
"""


async def insert(connection: Connection, new: NewSchedule, principal: Principal = ANYBODY) -> Schedule:
    """Create a schedule of the principal. Raises InvalidFields, and Refused for an unknown device."""
    (now,) = await (await connection.execute(_NOW)).fetchone() or ()
    timing = read_timing(new)
    values = msgspec.structs.asdict(new) | {
        "figures": timing.figures.names, "next_tick": timing.cron.after(now), "owner": principal.owner,
    }  # fmt: skip
    made = is_id(new.device_id) and await (await connection.execute(_INSERT, values)).fetchone()
    if not made:
        raise _unknown_device(new.device_id)
    return await find_schedule(connection, made[0], principal)


def _unknown_device(device_id: int) -> Refused:
    fault = Fault("device_id", f"there is no device {device_id}")
    return Refused(
        problems.UNKNOWN_DEVICE, f"{fault.detail}: POST /devices registers one, GET /devices lists them", [fault]
    )


@get(
    "/",
    permission=Permission.READ,
    summary="List schedules",
    response_description="A page of schedules.",
    response_headers=paging.HEADERS,
    responses=documented(problems.BAD_CURSOR, problems.INVALID_VALUE),
)
async def list_schedules(
    request: JsonRequest,
    slow_reads: Slow,
    device_id: Annotated[int | None, QueryParameter(description="Return schedules of this device.")] = None,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[Schedule]]:
    """Schedules in the order of their ids. An unknown device has none."""
    after = paging.decode(cursor, _SchedulesAfter) or _SchedulesAfter(0)
    if device_id is not None and not is_id(device_id):
        return Response([])
    async with slow_reads.connection(request) as connection:
        found = await select(connection, device_id, after.id, limit + 1, request.auth)
    return paging.page(request, found, limit, lambda schedule: _SchedulesAfter(schedule.id))


_SHOWN = """
    SELECT schedule.*, next_tick IS NULL AS paused, request_id AS latest_request,
           (SELECT status FROM analysis_requests WHERE id = request_id) AS latest_status,
           (SELECT devices.name FROM devices WHERE id = device_id) AS device_name
    FROM analysis_schedules AS schedule LEFT JOIN analysis_ticks ON schedule_id = schedule.id AND tick = last_tick
    WHERE EXISTS (SELECT FROM devices WHERE devices.id = device_id)
"""
_SELECT: LiteralString = (
    _SHOWN
    + """
      AND schedule.id > %(after)s AND (%(device_id)s::bigint IS NULL OR device_id = %(device_id)s)
    ORDER BY schedule.id
    LIMIT %(limit)s
"""
)


async def select(
    connection: Connection, device_id: int | None, after: int, limit: int, principal: Principal
) -> list[Schedule]:
    """Return the schedules with ids above `after`, of one device or all, as the principal may see them."""
    values = {"device_id": device_id, "after": after, "limit": limit}
    return await _schedules(connection, _SELECT, values, principal)


async def _schedules(
    connection: Connection, query: LiteralString, values: dict[str, Any], principal: Principal
) -> list[Schedule]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await mapped_rows(cursor, lambda row: _shown_to(principal, row))


def _shown_to(principal: Principal, row: dict[str, Any]) -> Schedule:
    callback = row["callback"] if principal.owns(row["callback_owner"]) else None
    return msgspec.convert({**row, "callback": callback, "description": _words(row["cron"])}, Schedule)


def _words(expression: str) -> str | None:
    try:
        return describe(expression)
    except ValueError:  # of another version
        return None


@get(
    "/{schedule_id:str}",
    permission=Permission.READ,
    summary="Get a schedule",
    response_description="The schedule.",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def show_schedule(request: AnyRequest, schedule_id: ScheduleId, database: Database) -> Schedule:
    """The schedule, with its next tick, and the request of its last tick with its status."""
    async with database.connection() as connection:
        return await find_schedule(connection, schedule_id, request.auth)


_FIND: LiteralString = _SHOWN + " AND schedule.id = %(id)s"


async def find_schedule(connection: Connection, schedule_id: int, principal: Principal = ANYBODY) -> Schedule:
    """Return the schedule as the principal may see it. Raises Refused if it does not exist."""
    if is_id(schedule_id):
        for schedule in await _schedules(connection, _FIND, {"id": schedule_id}, principal):
            return schedule
    raise no_such_schedule(schedule_id)


def no_such_schedule(schedule_id: int) -> Refused:
    """Return the refusal of an unknown id of a schedule."""
    return Refused(problems.NOT_FOUND, f"there is no schedule {schedule_id}: GET /stats/analysis/schedules lists them")


@patch(
    "/{schedule_id:str}",
    permission=Permission.QUEUE,
    summary="Pause, resume or change a schedule",
    response_description="The changed schedule.",
    responses=documented(
        problems.NOT_FOUND, problems.TOO_LARGE, problems.UNSUPPORTED_MEDIA_TYPE, problems.INVALID_VALUE
    ),
)
async def change_schedule(
    request: AnyRequest,
    schedule_id: ScheduleId,
    data: JSONBody[ScheduleChanges],
    database: Database,
    callback_rules: _Rules,
) -> Schedule:
    """A due tick uses the changed schedule. Ticks missed during a pause are not run."""
    if isinstance(data.callback, str):
        callback_rules.require(data.callback)
    async with database.connection() as connection, connection.transaction():
        changed = await change(connection, schedule_id, data, request.auth)
        await audit.record(connection, actor_of(request), Action.SCHEDULE_CHANGED, f"schedule {schedule_id}")
    return changed


_LOCK = """
    SELECT now() FROM analysis_schedules
    WHERE id = %s AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
    FOR UPDATE
"""
_CHANGE = """
    UPDATE analysis_schedules
    SET cron = %(cron)s, timezone = %(timezone)s, period = %(period)s, align = %(align)s, figures = %(figures)s,
        callback = %(callback)s, callback_owner = CASE WHEN %(is_new_callback)s THEN %(owner)s ELSE callback_owner END,
        name = %(name)s, next_tick = %(next_tick)s,
        last_error = %(last_error)s
    WHERE id = %(id)s
"""


async def change(
    connection: Connection, schedule_id: int, changes: ScheduleChanges, principal: Principal = ANYBODY
) -> Schedule:
    """Change the schedule for the principal, in the caller's transaction.

    Raises InvalidFields, and Refused if it does not exist.
    """
    locked = is_id(schedule_id) and await (await connection.execute(_LOCK, (schedule_id,))).fetchone()
    if not locked:
        raise no_such_schedule(schedule_id)
    before = await find_schedule(connection, schedule_id)
    given = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not UNSET}
    after = msgspec.structs.replace(before, **given)
    timing = read_timing(after)
    now, next_tick = locked[0], before.next_tick
    if after.paused:
        next_tick = None
    elif next_tick is None or (next_tick > now and (after.cron, after.timezone) != (before.cron, before.timezone)):
        next_tick = timing.cron.after(now)
    last_error = before.last_error if after.paused else None
    changed = msgspec.structs.replace(after, figures=timing.figures.names, next_tick=next_tick, last_error=last_error)
    owner = {"owner": principal.owner, "is_new_callback": changes.callback is not UNSET}
    await connection.execute(_CHANGE, msgspec.structs.asdict(changed) | owner)
    return await find_schedule(connection, schedule_id, principal)


@delete(
    "/{schedule_id:str}",
    permission=Permission.QUEUE,
    summary="Delete a schedule",
    response_description="Deleted.",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def delete_schedule(request: AnyRequest, schedule_id: ScheduleId, database: Database) -> None:
    """The requests that its ticks queued are kept, with their results."""
    async with database.connection() as connection, connection.transaction():
        if not is_id(schedule_id) or not (await connection.execute(_DELETE, (schedule_id,))).rowcount:
            raise no_such_schedule(schedule_id)
        await audit.record(connection, actor_of(request), Action.SCHEDULE_DELETED, f"schedule {schedule_id}")


# A worker removes the ticks: there may be too many for one statement.
_DELETE = """
    DELETE FROM analysis_schedules WHERE id = %s AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
"""
