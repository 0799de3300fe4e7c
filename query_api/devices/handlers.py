"""Routes of devices: register, get, rename, delete. `listing.py` has the lists."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, LiteralString

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation
from litestar.params import BodyKwarg, JSONBody, QueryParameter, SkipValidation
from psycopg.errors import DeadlockDetected, LockNotAvailable
from psycopg.rows import class_row

from query_api.access.rules import Permission
from query_api.devices.keys import Keys
from query_api.devices.listing import count_by_state, described, list_devices
from query_api.devices.record import Device, NewDevice, NewName, RegisteredDevice
from query_api.devices.registration import MAX_DEVICES, Registration, Row, check, register
from query_api.devices.tokens import Tokens
from query_api.errors import UnknownDevices
from query_api.ids import is_id
from query_api.queue.requests import notify_ended
from query_api.web.answers import problems
from query_api.web.answers.operations import bound_array
from query_api.web.answers.problems import AnyRequest, Refused, documented
from query_api.web.dependencies import Database, DeviceId, actor_of
from query_api.web.resource import Resource
from shared.access import audit
from shared.access.audit import Action, Actor
from shared.broker.outbox import Change
from shared.postgres.connections import Connection
from shared.readings import deletions

_Tokens = NamedDependency[SkipValidation[Tokens]]
_Keys = NamedDependency[SkipValidation[Keys]]


@dataclass
class _RegisterOperation(Operation):
    """Documents the bounds of the array, which Litestar does not find in a union."""

    def __post_init__(self) -> None:
        bound_array(self, 1, MAX_DEVICES)


class Existing(StrEnum):
    """How to handle a device whose key is taken."""

    REFUSE = "refuse"
    SKIP = "skip"


@post(
    "/",
    permission=Permission.ADMINISTER,
    operation_class=_RegisterOperation,
    summary="Register devices",
    response_description="Registered.",
    response_headers=[
        ResponseHeader(
            "Location", value="", description="The path of the device, if it was sent alone.", documentation_only=True
        )
    ],
    responses=documented(
        problems.KEY_TAKEN, problems.TOO_LARGE, problems.UNSUPPORTED_MEDIA_TYPE, problems.INVALID_VALUE
    ),
)
async def create_device(
    request: AnyRequest,
    data: Annotated[
        NewDevice | Annotated[list[NewDevice], msgspec.Meta(min_length=1, max_length=MAX_DEVICES)],
        BodyKwarg(description=f"A device, or an array of 1 to {MAX_DEVICES:,} devices. All are registered, or none."),
    ],
    database: Database,
    tokens: _Tokens,
    device_keys: _Keys,
    existing: Annotated[
        Existing,
        QueryParameter(
            description="refuse: a taken key is an error, and nothing is registered. skip: devices of an array whose "
            "keys are taken are skipped, and the response omits them."
        ),
    ] = Existing.REFUSE,
) -> Response[RegisteredDevice | list[RegisteredDevice]]:
    """The ingestor stores the messages that a registered device publishes to devices/<key>/stats.

    The response to an array is an array in the same order. A token is shown only in this response.
    `POST /devices/{device_id}/token` replaces a lost token.
    """
    given = Registration(data, True) if isinstance(data, list) else Registration([data], False)
    await check(given, device_keys)
    skip = given.is_array and existing is Existing.SKIP
    async with database.connection() as connection, connection.transaction():
        registered = await register(connection, given, device_keys, tokens, actor_of(request), skip_taken=skip)
    if given.is_array:
        return Response(registered)
    return Response(registered[0], headers={"Location": f"/devices/{registered[0].id}"})


@get(
    "/{device_id:str}",
    permission=Permission.READ,
    summary="Get a device",
    response_description="The device.",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def show_device(device_id: DeviceId, database: Database) -> Device:
    """The device with its number of readings and its latest reading."""
    async with database.connection() as connection:
        row = await _row(connection, _FIND, device_id)
        return (await described(connection, [row]))[0]


_FIND = "SELECT id, key, name, created_at FROM devices WHERE id = %(id)s"


async def _row(connection: Connection, query: LiteralString, device_id: int, **values: object) -> Row:
    if is_id(device_id):
        async with connection.cursor(row_factory=class_row(Row)) as cursor:
            row = await (await cursor.execute(query, {"id": device_id, **values})).fetchone()
            if row is not None:
                return row
    raise UnknownDevices([device_id])


@patch(
    "/{device_id:str}",
    permission=Permission.ADMINISTER,
    summary="Rename a device",
    response_description="The renamed device.",
    responses=documented(
        problems.NOT_FOUND, problems.TOO_LARGE, problems.UNSUPPORTED_MEDIA_TYPE, problems.INVALID_VALUE
    ),
)
async def rename_device(
    request: AnyRequest, device_id: DeviceId, data: JSONBody[NewName], database: Database
) -> Device:
    """The id and the key do not change."""
    async with database.connection() as connection, connection.transaction():
        row = await _row(connection, _RENAME, device_id, name=data.name)
        await audit.record(connection, actor_of(request), Action.DEVICE_RENAMED, f"device {device_id}", name=data.name)
        return (await described(connection, [row]))[0]


_RENAME = "UPDATE devices SET name = %(name)s WHERE id = %(id)s RETURNING id, key, name, created_at"


@delete(
    "/{device_id:str}",
    permission=Permission.ADMINISTER,
    summary="Delete a device and its data",
    response_description="Deleted.",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def delete_device(request: AnyRequest, device_id: DeviceId, database: Database, tokens: _Tokens) -> None:
    """No endpoint returns the device, its analyses or its schedules any more, and its messages are refused.

    A worker deletes the data in the background. The key can be registered again, for a new device.
    """
    async with database.connection() as connection:
        try:
            removed = is_id(device_id) and await _remove(connection, device_id, tokens, actor_of(request))
        except (LockNotAvailable, DeadlockDetected) as error:
            raise _busy(device_id) from error
    if not removed:
        raise UnknownDevices([device_id])


_PATIENCE = "SET LOCAL lock_timeout = '3s'"
_DELETE = "DELETE FROM devices WHERE id = %s RETURNING key"


async def _remove(connection: Connection, device_id: int, tokens: Tokens, actor: Actor) -> bool:
    """Delete the device and its token in one short transaction. Return False if it does not exist.

    A mark remains, by which a worker removes its other data (ADR 16, ADR 31). Raises LockNotAvailable and
    DeadlockDetected if other transactions use the device.
    """
    async with connection.transaction():
        await connection.execute(_PATIENCE)
        deleted = await (await connection.execute(_DELETE, (device_id,))).fetchone()
        if deleted is None:
            return False
        await notify_ended(connection, device_id)
        await tokens.queue_for_broker(connection, [device_id], Change.REVOCATION)
        await audit.record(connection, actor, Action.DEVICE_DELETED, f"device {device_id}", key=deleted[0])
        await deletions.record(connection, device_id, deleted[0])
    return True


def _busy(device_id: int) -> Refused:
    return Refused(
        problems.UNAVAILABLE,
        f"device {device_id} is in use and could not be deleted: retry in {problems.RETRY_AFTER_S} seconds",
        headers=problems.RETRY_AFTER,
    )


router = Resource(
    "/devices",
    route_handlers=[create_device, list_devices, count_by_state, show_device, rename_device, delete_device],
    tags=["devices"],
)
