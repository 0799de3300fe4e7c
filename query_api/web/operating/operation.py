"""Health and metrics of the API."""

from typing import Any

from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_503_SERVICE_UNAVAILABLE
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from query_api.access.rules import Permission
from query_api.web.answers.problems import FORBIDDEN, UNAUTHENTICATED, documented
from shared.serving.telemetry import Health, HealthReport

_METRICS_MEDIA_TYPE = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")  # Litestar adds it to any text
_REFUSALS: Any = {status: documented()[status] for status in (UNAUTHENTICATED.status, FORBIDDEN.status)}
_NOT_READY = ResponseSpec(
    HealthReport, generate_examples=False, description="Not ready. The report has the reason of each part."
)


def operation_routes(health: Health, registry: CollectorRegistry) -> list[HTTPRouteHandler]:
    """Return the routes `/health/live`, `/health/ready` and `/metrics`."""

    @get(
        "/health/live",
        permission=Permission.OPEN,
        tags=["operation"],
        summary="Check whether the process runs",
        response_description="The process runs.",
        sync_to_thread=False,
    )
    def live() -> HealthReport:
        return HealthReport("live", {})

    @get(
        "/health/ready",
        permission=Permission.READ,
        tags=["operation"],
        summary="Check whether every part is ready",
        response_description="Every part is ready.",
        responses={**_REFUSALS, HTTP_503_SERVICE_UNAVAILABLE: _NOT_READY},
        sync_to_thread=False,
    )
    def ready() -> Response[HealthReport]:
        status, report = health.readiness().answer()
        return Response(report, status_code=status)

    @get(
        "/metrics",
        permission=Permission.METRICS,
        tags=["operation"],
        summary="Get the metrics for Prometheus",
        response_description="The metrics.",
        media_type=MediaType.TEXT,
        responses=_REFUSALS,
        sync_to_thread=False,
    )
    def metrics() -> Response[bytes]:
        return Response(generate_latest(registry), media_type=_METRICS_MEDIA_TYPE)

    return [live, ready, metrics]
