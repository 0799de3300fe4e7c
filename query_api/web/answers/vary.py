"""Set `Vary` to every header that a response depends on (RFC 9110 section 12.5.5)."""

from collections.abc import Sequence
from typing import Any

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_STATE = "vary"
_VARY = b"vary"


def depends_on(request: Request[Any, Any, Any], header: str) -> None:
    """Add the header to `Vary` of the response, also of an error."""
    scope_depends_on(request.scope, header)


def scope_depends_on(scope: Scope, header: str) -> None:
    """The same, for the scope of a request."""
    scope["state"].setdefault(_STATE, []).append(header)


class Vary:
    """Sets `Vary` in the responses of an application. `always`: headers that every response depends on.

    Litestar's CORS overwrites `Vary` with `Origin`, and only for requests with an Origin.
    """

    def __init__(self, app: ASGIApp, always: Sequence[str]) -> None:
        self._app = app
        self._always = always

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = [value.decode() for name, value in message["headers"] if name == _VARY]
                headers = dict.fromkeys([*state.get(_STATE, ()), *named, *self._always])
                others = [header for header in message["headers"] if header[0] != _VARY]
                message["headers"] = [*others, *([(_VARY, ", ".join(headers).encode())] if headers else [])]
            await send(message)

        await self._app(scope, receive, send_with_vary)
