"""Principals, and the roles that may use each kind of route."""

from enum import StrEnum

import msgspec

from shared.access.credentials import Role

OPTION = "access"
"""The option of a route that says of which kind it is."""
DEVICE = "device"
"""Stands for the token of a device, which has no role: what it may do it may do for that device."""


class Access(StrEnum):
    """What a route is for. Each says who may."""

    OPEN = "open"
    """Whether the process runs: for anybody."""
    PUBLIC = "public"
    """What is the same for everybody, such as the documentation: for anybody."""
    READ = "read"
    QUEUE = "queue"
    """Have analyses computed, once or again and again, and take that back."""
    STORE = "store"
    """Bring readings."""
    ADMINISTER = "administer"
    METRICS = "metrics"
    """As READ, or with METRICS_TOKEN."""
    BROKER = "broker"
    """What an MQTT broker asks about its clients: with MQTT_AUTH_SECRET alone."""
    ASK = "ask"
    """Which methods a path takes: for whoever may do anything at all."""


_READERS = frozenset({Role.ADMIN, Role.ANALYST})
ALLOWED: dict[Access, frozenset[str]] = {
    Access.READ: _READERS,
    Access.QUEUE: _READERS,
    Access.STORE: frozenset({Role.ADMIN, Role.WRITER, DEVICE}),
    Access.ADMINISTER: frozenset({Role.ADMIN}),
    Access.METRICS: _READERS,
    Access.ASK: frozenset({*Role, DEVICE}),
}


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
