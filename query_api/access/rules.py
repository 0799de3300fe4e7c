"""Which roles each kind of route is for."""

from collections.abc import Iterable
from enum import StrEnum

from litestar.handlers import BaseRouteHandler

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


def access_of(handler: BaseRouteHandler) -> Access:
    """What the route is for. Raises LookupError where it does not say."""
    if "OPTIONS" in getattr(handler, "http_methods", ()):  # Litestar's own answer
        return Access.ASK
    if OPTION not in handler.opt:
        raise LookupError(f"the route {handler} does not say who may use it: it takes access=Access.…")
    return Access(handler.opt[OPTION])


def declare(access: Access, handlers: Iterable[BaseRouteHandler]) -> None:
    """Says it for routes that are made elsewhere."""
    for handler in handlers:
        handler.opt[OPTION] = access
