"""`Vary` names every header that an answer depends on, for the caches on its way (RFC 9110 section 12.5.5)."""

from collections.abc import Sequence
from typing import Any

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_STATE = "vary"
_VARY = b"vary"


def depends_on(request: Request[Any, Any, Any], header: str) -> None:
    """Has the answer to the request name the header, also where it is an error."""
    request.scope["state"].setdefault(_STATE, []).append(header)


class Vary:
    """The application, whose answers name what they depend on. `always`: headers that every answer depends on.

    Litestar's CORS writes `Vary: Origin` over whatever was there, and only in answers to requests with an Origin.
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
