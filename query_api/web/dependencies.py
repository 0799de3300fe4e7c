"""Parameters that many handlers take."""

from typing import Annotated, Any

from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.params import PathParameter, SkipValidation

from query_api.access.rules import Principal
from query_api.web.limits.turns import SlowReads
from shared.access.audit import Actor
from shared.postgres.connections import Pool

Database = NamedDependency[SkipValidation[Pool]]
"""The connections for short work: reading or changing a single resource."""
Slow = NamedDependency[SkipValidation[SlowReads]]
"""The connections for long reads: lists, and statistics of many readings."""
DeviceId = Annotated[int, PathParameter(description="Id of the device.")]


def actor_of(request: ASGIConnection[Any, Any, Any, Any]) -> Actor:
    """Return the client of the request, as the audit log records it."""
    principal: Principal = request.scope["auth"]
    return Actor(principal.name, request.client.host if request.client else "unknown")
