"""Principals, and the permissions of each role."""

from enum import StrEnum

import msgspec

from shared.access.credentials import Role

OPTION = "permission"
"""The option of a route that has its Permission."""
DEVICE = "device"
"""The role of a device's token, which is limited to that device."""


class Permission(StrEnum):
    """The permission that a route requires. ALLOWED has the roles with each."""

    OPEN = "open"
    """Whether the process runs. No credentials are required."""
    PUBLIC = "public"
    """Static content such as the documentation. No credentials are required."""
    READ = "read"
    QUEUE = "queue"
    """Queue or schedule analyses, and cancel them."""
    STORE = "store"
    """Store readings."""
    ADMINISTER = "administer"
    METRICS = "metrics"
    """As READ, or METRICS_TOKEN."""
    BROKER = "broker"
    """Questions of an MQTT broker. Requires MQTT_AUTH_SECRET."""
    ASK = "ask"
    """OPTIONS, and the caller's own session. Any valid credentials are sufficient."""


_READERS = frozenset({Role.ADMIN, Role.ANALYST})
ALLOWED: dict[Permission, frozenset[str]] = {
    Permission.READ: _READERS,
    Permission.QUEUE: _READERS,
    Permission.STORE: frozenset({Role.ADMIN, Role.WRITER, DEVICE}),
    Permission.ADMINISTER: frozenset({Role.ADMIN}),
    Permission.METRICS: _READERS,
    Permission.ASK: frozenset({*Role, DEVICE}),
}


class Principal(msgspec.Struct, frozen=True):
    """The holder of a key or of a device's token. `role`: one of Role, or DEVICE for the device with `device_id`.

    `session_id`: the session of the key, if the browser has signed in.
    """

    name: str
    role: str
    device_id: int | None = None
    key_id: int | None = None
    session_id: int | None = None

    @property
    def owner(self) -> str | None:
        """The owner of what this principal creates; None without a key."""
        return None if self.key_id is None else self.name

    def owns(self, owner: str | None) -> bool:
        """Whether this principal may see what belongs to the owner. An admin sees everything."""
        return self.role == Role.ADMIN or (owner is not None and owner == self.owner)


def permissions_of(role: str) -> list[Permission]:
    """Return the permissions of a role, but those that every role has."""
    return [permission for permission, roles in ALLOWED.items() if role in roles and permission is not Permission.ASK]


ANYBODY = Principal("anonymous", Role.ADMIN)
"""Every client while AUTH is off."""

BROKER = Principal("broker", "broker")
"""An MQTT broker that sent MQTT_AUTH_SECRET."""


def device(device_id: int) -> Principal:
    """Return the principal of a device."""
    return Principal(f"device {device_id}", DEVICE, device_id)
