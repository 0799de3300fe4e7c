"""Route that rotates a device's token."""

from litestar import post
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.status_codes import HTTP_200_OK

from query_api.access.rules import Permission
from query_api.devices.tokens import IssuedToken, Tokens
from query_api.errors import UnknownDevices
from query_api.ids import is_id
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, documented
from query_api.web.dependencies import Database, DeviceId, actor_of
from query_api.web.resource import Resource
from shared.access import audit
from shared.access.audit import Action
from shared.postgres.connections import Connection


@post(
    "/{device_id:str}/token",
    permission=Permission.ADMINISTER,
    status_code=HTTP_200_OK,
    summary="Rotate a device's token",
    response_description="The new token.",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def rotate_token(
    request: AnyRequest, device_id: DeviceId, database: Database, tokens: NamedDependency[SkipValidation[Tokens]]
) -> IssuedToken:
    """The former token is revoked, and a client that is connected to the broker with it is disconnected.

    A device that an ingestor registered has no token; this creates its first one.
    """
    async with database.connection() as connection, connection.transaction():
        key = await _lock(connection, device_id)
        issued = await tokens.issue(connection, device_id, key)
        await audit.record(connection, actor_of(request), Action.DEVICE_TOKEN_ROTATED, f"device {device_id}")
    return issued


# Keeps a concurrent transaction from deleting the device.
_LOCK = "SELECT key FROM devices WHERE id = %s FOR KEY SHARE"


async def _lock(connection: Connection, device_id: int) -> str:
    if is_id(device_id):
        row = await (await connection.execute(_LOCK, (device_id,))).fetchone()
        if row is not None:
            key: str = row[0]
            return key
    raise UnknownDevices([device_id])


router = Resource("/devices", route_handlers=[rotate_token], tags=["devices"])
