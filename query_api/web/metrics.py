"""Metrics of HTTP requests: count and duration by route, method and status.

A HEAD is counted as the GET that answers it.
"""

import time
from http import HTTPMethod
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Histogram

_HUNG_UP = "499"
"""nginx's status for a client that disconnected before the response, which is no failure of the service."""
_METHODS: frozenset[str] = frozenset(HTTPMethod)


class MeasuredRequests:
    """Counts the requests of an application in the registry.

    It wraps the whole application, so that requests without a route are counted too, as route "none".
    """

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        labels = ("route", "method", "status")
        self._requests = Counter("devicestat_http_requests", "HTTP requests answered.", labels, registry=registry)
        self._seconds = Histogram(
            "devicestat_http_request_seconds", "From a request to the end of its answer.", labels,
            registry=registry,
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        status = "none"
        began = time.perf_counter()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start" and status == "none":
                status = str(message["status"])
            await send(message)

        async def note_hanging_up() -> Any:
            nonlocal status
            message = await receive()
            if message["type"] == "http.disconnect" and status == "none":
                status = _HUNG_UP
            return message

        try:
            await self._app(scope, note_hanging_up, note_status)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            labels = (scope.get("path_template") or "none", method, status)
            self._requests.labels(*labels).inc()
            self._seconds.labels(*labels).observe(time.perf_counter() - began)
