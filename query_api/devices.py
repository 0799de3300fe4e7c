"""Devices: registered, listed, shown."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.datastructures import ResponseHeader
from litestar.params import JSONBody, PathParameter, QueryParameter
from psycopg.rows import class_row

from query_api import paging, problems
from query_api.bodies import JsonRequest
from query_api.problems import Fault, Refused, documented, invalid, shown
from query_api.resource import Resource
from query_api.state import Database
from shared.database import Connection
from shared.models import DEVICES_CHANNEL, KEY_PATTERN, is_key

MAX_ID = 2**63 - 1
"""The largest bigint: a number above it is no device's."""

DeviceId = Annotated[int, PathParameter(description="The device's number.")]
_KEY_RULE = "1 to 128 characters, none of them a space, a control character, /, + or #"
_NAME_RULE = "1 to 200 characters, none of them NUL, and not all of them spaces"
_Name = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*[^\s\x00][^\x00]*$",
        description=f"What people call the device: {_NAME_RULE}.",
        extra={"takes": _NAME_RULE},
        examples=["Boiler, north"],
    ),
]
_Key = Annotated[
    str,
    msgspec.Meta(
        pattern=KEY_PATTERN.replace(r"\Z", "$"),
        description=f"The device's level in its MQTT topic, devices/<key>/stats: {_KEY_RULE}. No two "
        "devices have the same. Left out, it is the number.",
        extra={"takes": f"one level of a topic: {_KEY_RULE}"},
        examples=["boiler-north"],
    ),
]


class NewDevice(msgspec.Struct, frozen=True):
    """A device to be registered."""

    name: _Name
    key: _Key | None = None


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever publishes readings."""

    id: Annotated[int, msgspec.Meta(description="Its number, which this API uses.", examples=[1])]
    key: Annotated[str, msgspec.Meta(description="Its level in its MQTT topic, devices/<key>/stats.", examples=["1"])]
    name: Annotated[str, msgspec.Meta(description="What people call it.", examples=["Boiler, north"])]
    created_at: Annotated[datetime, msgspec.Meta(description="When it was registered.")]


class _DevicesAfter(msgspec.Struct, frozen=True, array_like=True, tag="devices"):
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


@post(
    "/",
    summary="Register a device",
    response_description="Registered.",
    response_headers=[ResponseHeader("Location", value="", description="The device's path.", documentation_only=True)],
    responses=documented(
        problems.KEY_TAKEN, problems.TOO_LARGE, problems.UNSUPPORTED_MEDIA_TYPE, problems.INVALID_VALUE
    ),
)
async def create_device(data: JSONBody[NewDevice], database: Database) -> Response[Device]:
    """From then on what it publishes to devices/<key>/stats is stored."""
    if data.key is not None and not is_key(data.key):
        raise invalid(Fault("key", f"expected one level of a topic: {_KEY_RULE}, got {shown(data.key)}"))
    async with database.connection() as connection:
        device = await insert(connection, data)
    return Response(device, headers={"Location": f"/devices/{device.id}"})


_INSERT = """
    WITH registered AS (
        INSERT INTO devices (id, key, name)
        SELECT id, coalesce(%(key)s, id::text), %(name)s
        FROM nextval(pg_get_serial_sequence('devices', 'id')) AS id
        ON CONFLICT (key) DO NOTHING
        RETURNING id, key, name, created_at
    )
    SELECT id, key, name, created_at FROM registered, pg_notify(%(channel)s, key)
"""


async def insert(connection: Connection, new: NewDevice) -> Device:
    """Registers the device. Raises Refused where its key is taken.

    A number that someone has taken as a key is passed over.
    """
    while True:
        async with connection.cursor(row_factory=class_row(Device)) as cursor:
            await cursor.execute(_INSERT, {"key": new.key, "name": new.name, "channel": DEVICES_CHANNEL})
            device = await cursor.fetchone()
        if device is not None:
            return device
        if new.key is not None:
            raise Refused(
                problems.KEY_TAKEN,
                f"another device has the key {new.key!r}: choose another, or leave it out to have one made",
                [Fault("key", "is taken")],
            )


@get(
    "/",
    summary="List the devices",
    response_headers=paging.HEADERS,
    responses=documented(problems.BAD_CURSOR, problems.INVALID_VALUE),
)
async def list_devices(
    request: JsonRequest,
    database: Database,
    search: Annotated[
        str | None,
        QueryParameter(
            max_length=200, description="Only those with this in their name or key, in upper or lower case."
        ),
    ] = None,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[Device]]:
    """By their numbers, the oldest first."""
    after = paging.decode(cursor, _DevicesAfter) or _DevicesAfter(0)
    if search is not None and "\0" in search:
        raise invalid(Fault("search", "holds a NUL character, which no name and no key does"))
    async with database.connection() as connection:
        found = await select(connection, search, after.id, limit + 1)
    shown = found[:limit]
    return paging.page(request, shown, _DevicesAfter(shown[-1].id) if len(found) > limit else None)


_SELECT = """
    SELECT id, key, name, created_at FROM devices
    WHERE id > %(after)s
      AND (%(search)s::text IS NULL
           OR strpos(lower(name), lower(%(search)s)) > 0 OR strpos(lower(key), lower(%(search)s)) > 0)
    ORDER BY id
    LIMIT %(limit)s
"""


async def select(connection: Connection, search: str | None, after: int, limit: int) -> list[Device]:
    """The devices with numbers above `after` that match, in order."""
    async with connection.cursor(row_factory=class_row(Device)) as cursor:
        await cursor.execute(_SELECT, {"search": search, "after": after, "limit": limit})
        return await cursor.fetchall()


@get(
    "/{device_id:str}",
    summary="Show a device",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def show_device(device_id: DeviceId, database: Database) -> Device:
    """The device of this number."""
    async with database.connection() as connection:
        return await find(connection, device_id)


_FIND = "SELECT id, key, name, created_at FROM devices WHERE id = %s"


async def find(connection: Connection, device_id: int) -> Device:
    """The device. Raises Refused where there is none."""
    if 0 < device_id <= MAX_ID:
        async with connection.cursor(row_factory=class_row(Device)) as cursor:
            device = await (await cursor.execute(_FIND, [device_id])).fetchone()
            if device is not None:
                return device
    raise no_such_device(device_id)


def no_such_device(device_id: int) -> Refused:
    """The refusal of a path that names no device."""
    return Refused(problems.NOT_FOUND, f"there is no device {device_id}: GET /devices lists them")


router = Resource("/devices", route_handlers=[create_device, list_devices, show_device], tags=["devices"])
