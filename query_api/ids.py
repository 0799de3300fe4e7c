"""Ids: their bounds, their fields in records, and whether a device has one."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from query_api.errors import UnknownDevices
from shared.postgres.connections import Connection

MAX_ID = 2**63 - 1
"""The largest bigint. Nothing has an id above it."""

Id = Annotated[int, msgspec.Meta(description="Id.", examples=[1])]
DeviceIdField = Annotated[int, msgspec.Meta(description="Id of the device.", examples=[1])]
DeviceName = Annotated[str, msgspec.Meta(description="Display name of the device.", examples=["Boiler, north"])]


def is_id(given: int) -> bool:
    """Whether something can have this id."""
    return 0 < given <= MAX_ID


def require_possible(devices: Sequence[int]) -> None:
    """Raise UnknownDevices for ids that no device can have."""
    if impossible := [device for device in devices if not is_id(device)]:
        raise UnknownDevices(impossible)


_MISSING = "SELECT wanted FROM unnest(%s::bigint[]) AS wanted WHERE NOT EXISTS (SELECT FROM devices WHERE id = wanted)"


async def require_devices(connection: Connection, devices: Sequence[int]) -> None:
    """Raise UnknownDevices unless devices have all these ids."""
    require_possible(devices)
    missing = await (await connection.execute(_MISSING, (list(devices),))).fetchall()
    if missing:
        raise UnknownDevices([row[0] for row in missing])


_DEVICE = "SELECT FROM devices WHERE id = %s"


async def require_device(connection: Connection, device_id: int) -> None:
    """Raise UnknownDevices unless a device has the id."""
    if not is_id(device_id) or not (await connection.execute(_DEVICE, (device_id,))).rowcount:
        raise UnknownDevices([device_id])
