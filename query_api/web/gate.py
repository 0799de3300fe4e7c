"""Middleware that authenticates and authorizes every request.

A request sends its key as `Authorization: Bearer …` (RFC 6750), or the cookie of a session (ADR 45). The response is
401 if the credentials are missing or invalid, and 403 if they do not allow the request, or if the page that it is from
may not use the session.
"""

from collections.abc import Collection
from time import monotonic

import structlog
from litestar import Litestar
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from query_api.access.keyring import Keyring
from query_api.access.pages import SAFE_METHODS, Page, page_of
from query_api.access.rules import ALLOWED, ANYBODY, BROKER, DEVICE, OPTION, Permission, Principal
from query_api.access.shown import Shown, shown
from query_api.web.answers import problems
from query_api.web.answers.problems import Refused
from query_api.web.limits.window import Window
from shared.access.bearer import CHALLENGE, is_bearer, shows
from shared.access.credentials import Role

_log = structlog.get_logger()
_HOLDERS = {
    Role.ADMIN: "an admin key", Role.ANALYST: "an analyst key", Role.WRITER: "a writer key", DEVICE: "a device's token",
}  # fmt: skip


class Gate(ASGIMiddleware):
    """Authenticates requests. `keyring`: None while AUTH is off; then every request is allowed."""

    def __init__(self, keyring: Keyring | None, metrics_token: str | None, broker_secret: str | None = None) -> None:
        self._keyring = keyring
        self._metrics_token = metrics_token
        self._broker_secret = broker_secret
        self._refusals = Window(60.0, monotonic)

    @property
    def is_closed(self) -> bool:
        """Whether requests need a key."""
        return self._keyring is not None

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass the request on with its principal in scope["auth"]. Raises Refused."""
        permission = permission_of(scope["route_handler"])
        if permission is Permission.BROKER:
            scope["auth"] = self._for_broker(scope)
        elif permission is Permission.METRICS and self._metrics_token is not None:
            scope["auth"] = await self._for_metrics(scope, self._metrics_token)
        elif self._keyring is None or permission in (Permission.OPEN, Permission.PUBLIC):
            scope["auth"] = ANYBODY
        else:
            scope["auth"] = await self._admitted(scope, permission, self._keyring)
        await next_app(scope, receive, send)

    async def _for_metrics(self, scope: Scope, token: str) -> Principal:
        if is_bearer(_header(scope), token):
            return ANYBODY
        if self._keyring is None:
            raise unauthenticated("send METRICS_TOKEN as Authorization: Bearer …")
        return await self._admitted(scope, Permission.METRICS, self._keyring)

    def _for_broker(self, scope: Scope) -> Principal:
        if self._broker_secret is None or not shows(_header(scope), self._broker_secret):
            self._warn_of_refusal(scope["client"])
            raise unauthenticated(
                "send MQTT_AUTH_SECRET as Authorization: Bearer …, or as the password of Authorization: Basic …"
            )
        return BROKER

    def _warn_of_refusal(self, client: tuple[str, int] | None) -> None:
        """Log the refusal once a minute, as the broker may not."""
        address = client[0] if client else "unknown"
        if self._refusals.add(address) == 1:
            _log.warning("the request of a broker was refused: MQTT_AUTH_SECRET is missing or wrong", address=address)

    async def _admitted(self, scope: Scope, permission: Permission, keyring: Keyring) -> Principal:
        credential = shown(scope["headers"], scope["scheme"])
        if credential is None:
            raise unauthenticated(
                "no credentials were sent: send a key as Authorization: Bearer …, or sign in with POST /session"
            )
        if credential.by_cookie:
            _require_own_page(scope)
        principal = await keyring.find(credential.text, by_cookie=credential.by_cookie)
        if principal is None:
            raise _invalid(credential)
        if principal.role not in ALLOWED[permission]:
            raise _forbidden(principal, ALLOWED[permission])
        return principal


def _require_own_page(scope: Scope) -> None:
    """Raise Refused for a request of another page that may change data, and to which the browser added the session."""
    method = scope["method"] if scope["type"] == ScopeType.HTTP else "GET"
    if method not in SAFE_METHODS and not (page := page_of(scope["headers"], scope["scheme"])).is_own:
        raise foreign_page(page)


def foreign_page(page: Page) -> Refused:
    """Return the refusal of a request that is not from a page of this service."""
    source = "no page" if page.is_none else "a page of another site" if page.origin is None else repr(page.origin[:100])
    return Refused(
        problems.FOREIGN_PAGE,
        f"the request is from {source}, and a session is for pages of {page.address[:100]!r} only. "
        "Programs send a key as Authorization: Bearer …",
    )


def _invalid(credential: Shown) -> Refused:
    if credential.by_cookie:
        return unauthenticated("the session has ended, or its key was revoked or has expired: sign in again")
    return unauthenticated("the credentials are invalid: unknown, expired or revoked", "invalid_token")


def _header(scope: Scope) -> str | None:
    return Headers.from_scope(scope).get("authorization")


def unauthenticated(detail: str, error: str | None = None) -> Refused:
    """Return the refusal of a request without valid credentials. `error`: a code of RFC 6750, section 3.1."""
    challenge = f'{CHALLENGE}, error="{error}"' if error else CHALLENGE
    return Refused(problems.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": challenge})


def _forbidden(principal: Principal, allowed: Collection[str]) -> Refused:
    required = " or ".join(holder for role, holder in _HOLDERS.items() if role in allowed)
    return forbidden(f"this requires {required}, not {_HOLDERS[principal.role]}")


def forbidden(detail: str) -> Refused:
    """Return the refusal of a request that the credentials do not allow."""
    challenge = f'{CHALLENGE}, error="insufficient_scope"'
    return Refused(problems.FORBIDDEN, detail, headers={"WWW-Authenticate": challenge})


def require_rules(app: Litestar) -> None:
    """Raise LookupError for a route without a Permission."""
    for route in app.routes:
        for handler in handlers_of(route):
            permission_of(handler)


def handlers_of(route: object) -> list[BaseRouteHandler]:
    """Return the handlers of a route of any kind."""
    several: list[BaseRouteHandler] | None = getattr(route, "route_handlers", None)
    return several if several is not None else [route.route_handler]  # type: ignore[attr-defined]


def permission_of(handler: BaseRouteHandler) -> Permission:
    """Return the Permission of the route. Raises LookupError if it has none."""
    if "OPTIONS" in getattr(handler, "http_methods", ()):  # Litestar's response
        return Permission.ASK
    if OPTION not in handler.opt:
        raise LookupError(f"the route {handler} has no Permission: declare it with permission=Permission.…")
    return Permission(handler.opt[OPTION])
