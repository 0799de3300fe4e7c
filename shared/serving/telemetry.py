"""Logs, metrics and health: what an operator sees of a running service.

`configure_logging` at the start of a command; `Health` holds what the service knows of itself;
`telemetry_routes` serves both over HTTP, in the API's application and in the small one of the daemons.
"""

import logging
import sys
from typing import Any

import msgspec
import structlog
from litestar import MediaType, Request, Response, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from structlog.dev import plain_traceback

from shared.access.bearer import CHALLENGE, is_bearer
from shared.serving.own_hosts import OwnHosts
from shared.serving.redaction import redactor
from shared.settings import Settings

AnyConnection = ASGIConnection[Any, Any, Any, Any]

METRICS_MEDIA_TYPE = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")  # Litestar adds it to any text


def configure_logging(settings: Settings) -> None:
    """One line an event on standard error, in the format and from the level that are set, without secrets.

    Libraries that log through `logging` come out in the same form.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # The console's own form of a traceback shows what the variables hold, also secrets, folded so that none is found.
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.logs_as_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback)]
    )
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderers,
                redactor(settings).process,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for chatty in ("uvicorn", "httpx"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    logging.getLogger("apscheduler").setLevel(
        logging.ERROR
    )  # it warns of each long round; readiness reports overdue ones
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it warns at each attempt; we say when it changes


class Health:
    """What a service knows of itself: each part is ready, or says why it is not."""

    def __init__(self, *parts: str) -> None:
        self._faults: dict[str, str | None] = dict.fromkeys(parts, "starting")

    def ready(self, part: str) -> None:
        """The part does its work."""
        self._faults[part] = None

    def not_ready(self, part: str, why: str) -> None:
        """The part cannot do its work, for the reason given."""
        self._faults[part] = why

    @property
    def is_ready(self) -> bool:
        return not any(self._faults.values())

    def report(self) -> dict[str, str]:
        """Each part with "ok" or what is wrong with it."""
        return {part: fault or "ok" for part, fault in self._faults.items()}


class HealthReport(msgspec.Struct, frozen=True):
    """The answer of the health endpoints."""

    status: str
    parts: dict[str, str]


def readiness(parts: dict[str, str], *, is_ready: bool) -> Response[HealthReport]:
    """The answer of /health/ready: 503 while a part is not ready."""
    if is_ready:
        return Response(HealthReport("ready", parts), status_code=HTTP_200_OK)
    return Response(HealthReport("not ready", parts), status_code=HTTP_503_SERVICE_UNAVAILABLE)


class TelemetryAccess(msgspec.Struct, frozen=True):
    """Access to health and metrics. `guarded`: the metrics, and why a part is not ready, are for `token` alone.

    `hosts`: what the server answers to where it is not guarded. Whether it is live and ready is for anybody.
    """

    guarded: bool = False
    token: str | None = None
    hosts: OwnHosts | None = None

    def allows(self, connection: AnyConnection) -> bool:
        """Whether the request shows the token, or needs none."""
        shown = connection.headers.get("authorization")
        return not self.guarded or (self.token is not None and is_bearer(shown, self.token))

    def require(self, connection: AnyConnection, _: BaseRouteHandler) -> None:
        """Refuse a request that is not allowed, as a guard of a route. Raises NotAuthorizedException."""
        if self.allows(connection):
            return
        challenge = f'{CHALLENGE}, error="invalid_token"' if "authorization" in connection.headers else CHALLENGE
        unset = "" if self.token else ", which is not set here"
        detail = f"the metrics take DEVICESTAT_METRICS_TOKEN{unset}, as Authorization: Bearer …"
        raise NotAuthorizedException(detail, headers={"WWW-Authenticate": challenge})


OPEN = TelemetryAccess()
"""For a server that looks at keys by itself."""


def telemetry_routes(
    health: Health, registry: CollectorRegistry, access: TelemetryAccess = OPEN
) -> list[HTTPRouteHandler]:
    """`/health/live`, `/health/ready` (503 while a part is not) and `/metrics`, for those that have access."""

    @get("/health/live", tags=["operation"], summary="Whether the process runs", sync_to_thread=False)
    def live() -> HealthReport:
        return HealthReport("live", {})

    @get(
        "/health/ready",
        tags=["operation"],
        summary="Whether every part can do its work",
        responses={
            HTTP_503_SERVICE_UNAVAILABLE: ResponseSpec(
                HealthReport, generate_examples=False, description="A part cannot, and says why."
            )
        },
        sync_to_thread=False,
    )
    def ready(request: Request[Any, Any, Any]) -> Response[HealthReport]:
        parts = health.report() if access.allows(request) else {}
        return readiness(parts, is_ready=health.is_ready)

    @get(
        "/metrics",
        guards=[access.require],
        tags=["operation"],
        summary="Figures for Prometheus",
        media_type=MediaType.TEXT,
        sync_to_thread=False,
    )
    def metrics() -> Response[bytes]:
        return Response(generate_latest(registry), media_type=METRICS_MEDIA_TYPE)

    return [live, ready, metrics]
