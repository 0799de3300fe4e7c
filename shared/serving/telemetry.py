"""Logs, metrics and health of a service, for its operator.

A command calls `configure_logging` as it starts. `Health` holds the state of the service's parts. `telemetry_app.py`
serves health and metrics of a daemon; the API serves its own with `query_api/web/operating/operation.py`.
"""

import logging
import sys
import time
from http import HTTPStatus

import msgspec
import structlog
from structlog.dev import plain_traceback

from shared.access.bearer import CHALLENGE, is_bearer
from shared.serving.own_hosts import OwnHosts
from shared.serving.redaction import redactor
from shared.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Log each event as one line on standard error, in the configured format and from the configured level.

    Secrets are removed. Events of libraries that use `logging` have the same form.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # The console's own traceback shows values of variables, and wraps them, so redaction would miss secrets.
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
    )  # it warns about each long round; readiness reports overdue ones
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it warns at each attempt; the service logs changes


STARTING = "starting"
"""The fault of a part before it is ready for the first time."""


class Health:
    """Readiness of a service: each part is ready, or has a reason why it is not."""

    def __init__(self, *parts: str) -> None:
        self._faults: dict[str, str | None] = dict.fromkeys(parts, STARTING)
        self._changed_at = dict.fromkeys(parts, time.monotonic())

    def ready(self, part: str) -> None:
        """Mark the part as ready."""
        self._set(part, None)

    def not_ready(self, part: str, why: str) -> None:
        """Mark the part as not ready, with the reason."""
        self._set(part, why)

    def _set(self, part: str, fault: str | None) -> None:
        if part not in self._faults or (self._faults[part] is None) != (fault is None):
            self._changed_at[part] = time.monotonic()
        self._faults[part] = fault

    @property
    def is_ready(self) -> bool:
        return not any(self._faults.values())

    def report(self) -> dict[str, str]:
        """Return each part with "ok" or its fault."""
        return {part: fault or "ok" for part, fault in self._faults.items()}

    def parts(self) -> "list[Part]":
        """Return each part, with the time since it became ready or not ready."""
        now = time.monotonic()
        return [Part(name, fault, now - self._changed_at[name]) for name, fault in self._faults.items()]

    def readiness(self) -> "Readiness":
        """Return whether every part is ready, and the state of each."""
        return Readiness(self.is_ready, self.report())


class Part(msgspec.Struct, frozen=True):
    """State of a part of a service. `fault`: None if it is ready. `for_s`: the time since it is ready, or not."""

    name: str
    fault: str | None
    for_s: float


class Readiness(msgspec.Struct, frozen=True):
    """Whether a service is ready, and the state of its parts."""

    is_ready: bool
    parts: dict[str, str]

    def answer(self, *, with_parts: bool = True) -> tuple[HTTPStatus, "HealthReport"]:
        """Return the status and the body of /health/ready: 503 while a part is not ready."""
        parts = self.parts if with_parts else {}
        if self.is_ready:
            return HTTPStatus.OK, HealthReport("ready", parts)
        return HTTPStatus.SERVICE_UNAVAILABLE, HealthReport("not ready", parts)


class HealthReport(msgspec.Struct, frozen=True):
    """Body of the health endpoints."""

    status: str
    parts: dict[str, str]


class TelemetryAccess(msgspec.Struct, frozen=True):
    """Access to health and metrics. `guarded`: the metrics, and the faults of parts, require `token`.

    `hosts`: accepted hosts if it is not guarded. Liveness and readiness require no token.
    """

    guarded: bool = False
    token: str | None = None
    hosts: OwnHosts | None = None

    def allows(self, shown: str | None) -> bool:
        """Return whether a request with this Authorization header has the token, or needs none."""
        return not self.guarded or (self.token is not None and is_bearer(shown, self.token))

    def refusal(self, shown: str | None) -> tuple[str, str]:
        """Return the detail and the challenge of a 401."""
        challenge = CHALLENGE if shown is None else f'{CHALLENGE}, error="invalid_token"'
        unset = "" if self.token else ", which is not set here"
        return f"the metrics require DEVICESTAT_METRICS_TOKEN{unset}, as Authorization: Bearer …", challenge
