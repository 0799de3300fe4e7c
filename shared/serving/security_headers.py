"""Security headers of every response of the API and the telemetry port, including errors, files and streams.

They follow https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html. The server adds the constant
headers, ALWAYS, to each response, including its own refusals.
"""

from shared.serving.asgi import ASGIApp, Message, Receive, Scope, Send

ALWAYS = [("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"), ("Referrer-Policy", "no-referrer")]
POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""Allows nothing to load or run. A response that needs more sets its own policy."""
_NO_STORE = (b"cache-control", b"no-store")
_CREDENTIALS = frozenset({b"authorization", b"cookie"})
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")


class SecurityHeaders:
    """Middleware that adds the headers that depend on the request or the response.

    - Content-Security-Policy: POLICY, unless the response has its own.
    - Cache-Control: no-store for a request with a key or a cookie, unless the response has its own.
    - Strict-Transport-Security for a request over https: browsers then use only https for a year.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_missing(scope, dict(message["headers"]))]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _missing(scope: Scope, given: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the headers that the response lacks."""
    headers = [] if POLICY[0] in given else [POLICY]
    if _NO_STORE[0] not in given and any(name in _CREDENTIALS for name, _ in scope["headers"]):
        headers.append(_NO_STORE)
    if scope["scheme"] == "https":
        headers.append(_STRICT_TRANSPORT)
    return headers
