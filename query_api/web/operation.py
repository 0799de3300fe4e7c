"""Health and metrics as the API serves them: each for whom it is for, and with what a refusal looks like."""

from litestar.handlers import HTTPRouteHandler
from prometheus_client import CollectorRegistry

from query_api.access.rules import Access
from query_api.web.answers.problems import FORBIDDEN, UNAUTHENTICATED, documented
from query_api.web.gate import declare
from shared.serving.telemetry import Health, telemetry_routes

_FOR = (Access.OPEN, Access.READ, Access.METRICS)


def operation_routes(health: Health, registry: CollectorRegistry) -> list[HTTPRouteHandler]:
    """`/health/live`, `/health/ready` and `/metrics`."""
    routes = telemetry_routes(health, registry)
    for access, route in zip(_FOR, routes, strict=True):
        declare(access, [route])
        if access is not Access.OPEN:
            refusals = {status: spec for status, spec in documented().items() if status in _REFUSED}
            route.responses = {**refusals, **(route.responses or {})}
    return routes


_REFUSED = (UNAUTHENTICATED.status, FORBIDDEN.status)
