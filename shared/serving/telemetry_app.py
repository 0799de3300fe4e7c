"""The HTTP application of a daemon's telemetry port: `/health/live`, `/health/ready` and `/metrics`.

It uses plain ASGI, so a daemon starts without the API's framework.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from shared.serving.asgi import Receive, Scope, Send
from shared.serving.telemetry import HealthReport, Readiness, TelemetryAccess

JSON = "application/json"


class TelemetryResponse(msgspec.Struct, frozen=True):
    """A response with a body."""

    body: bytes
    media_type: str = JSON
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()


class TelemetryApp:
    """The application. `readiness` and `metrics` return its content, and `access` restricts it."""

    def __init__(
        self,
        readiness: Callable[[], Awaitable[Readiness]],
        metrics: Callable[[], Awaitable[CollectorRegistry]],
        access: TelemetryAccess,
    ) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._access = access

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Answer a request."""
        assert scope["type"] == "http", "neither websockets nor a lifespan are served"
        answer = await self._answer(scope)
        headers = [("content-type", answer.media_type), ("content-length", str(len(answer.body))), *answer.headers]
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": answer.status.value, "headers": encoded})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})

    async def _answer(self, scope: Scope) -> TelemetryResponse:
        routes = {"/health/live": self._live, "/health/ready": self._ready, "/metrics": self._figures}
        route = routes.get(scope["path"].rstrip("/"))
        if route is None:
            return _error(HTTPStatus.NOT_FOUND, "Not Found")
        if scope["method"] != "GET":
            return _error(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", ("allow", "GET"))
        shown = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"), None)
        return await route(shown)

    async def _live(self, _: str | None) -> TelemetryResponse:
        return TelemetryResponse(msgspec.json.encode(HealthReport("live", {})))

    async def _ready(self, shown: str | None) -> TelemetryResponse:
        status, report = (await self._readiness()).answer(with_parts=self._access.allows(shown))
        return TelemetryResponse(msgspec.json.encode(report), status=status)

    async def _figures(self, shown: str | None) -> TelemetryResponse:
        if not self._access.allows(shown):
            detail, challenge = self._access.refusal(shown)
            return _error(HTTPStatus.UNAUTHORIZED, detail, ("www-authenticate", challenge))
        return TelemetryResponse(generate_latest(await self._metrics()), CONTENT_TYPE_LATEST)


def _error(status: HTTPStatus, detail: str, *headers: tuple[str, str]) -> TelemetryResponse:
    body = msgspec.json.encode({"status_code": status.value, "detail": detail})
    return TelemetryResponse(body, status=status, headers=headers)
