"""Who a request is from."""

from typing import Any

import msgspec
from litestar.connection import ASGIConnection

from query_api.access.rules import DEVICE
from shared.access.audit import Actor
from shared.access.credentials import Role

AnyConnection = ASGIConnection[Any, Any, Any, Any]


class Principal(msgspec.Struct, frozen=True):
    """The holder of a key or of a device's token. `role`: one of Role, or DEVICE for the device of the number."""

    name: str
    role: str
    device_id: int | None = None
    key_id: int | None = None

    @property
    def owner(self) -> str | None:
        """What says whose something is that this principal makes; None: nobody's in particular."""
        return None if self.key_id is None else self.name

    def owns(self, owner: str | None) -> bool:
        """Whether this principal may see what only its owner may; an admin sees everything."""
        return self.role == Role.ADMIN or (owner is not None and owner == self.owner)


ANYBODY = Principal("anonymous", Role.ADMIN)
"""Whoever it is, while AUTH is off."""

BROKER = Principal("broker", "broker")
"""An MQTT broker that has shown MQTT_AUTH_SECRET."""


def device(device_id: int) -> Principal:
    """The device of the number."""
    return Principal(f"device {device_id}", DEVICE, device_id)


def actor_of(request: AnyConnection) -> Actor:
    """As the audit names who the request is from."""
    principal: Principal = request.scope["auth"]
    return Actor(principal.name, request.client.host if request.client else "unknown")
