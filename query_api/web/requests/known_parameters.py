"""Middleware that refuses unknown and repeated query parameters with 422.

Otherwise a request with `from` instead of `start` would silently analyse all time. The parameters of each route are
read once from its handler and the handler's dependencies.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from urllib.parse import parse_qsl

import msgspec
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from query_api.errors import MAX_DISPLAYED, Fault
from query_api.web.answers.problems import MAX_FAULTS, invalid
from query_api.web.requests.nearest import not_known

ANY_PARAMETERS = "any_parameters"
"""The option of a route that takes any parameters, as scripts of its page read them."""


class Taken(msgspec.Struct, frozen=True):
    """The parameters of a route, those that are lists, and whether it takes a body."""

    parameters: frozenset[str]
    lists: frozenset[str]
    body: bool


class KnownParameters(ASGIMiddleware):
    """The middleware. It does nothing until `learn` is called."""

    def __init__(self) -> None:
        self._taken: dict[BaseRouteHandler, Taken] = {}

    def learn(self, app: Litestar) -> None:
        """Read the parameters of each route of the application."""
        for route in app.routes:
            if isinstance(route, HTTPRoute):
                for handler, model in route.route_handler_map.values():
                    if handler.opt.get(ANY_PARAMETERS):
                        continue
                    parameters = model.expected_query_params
                    self._taken[handler] = Taken(
                        frozenset(parameter.field_alias for parameter in parameters),
                        frozenset(parameter.field_alias for parameter in parameters if parameter.is_sequence),
                        handler.parsed_data_field is not None,
                    )

    def of(self, handler: BaseRouteHandler) -> Taken:
        """Return the parameters of the handler's route."""
        return self._taken[handler]

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass the request on. Raises Refused with each wrong parameter."""
        taken = self._taken.get(scope["route_handler"])
        if taken is not None and scope["type"] == ScopeType.HTTP:
            faults = list(islice(_faults(scope, taken), MAX_FAULTS))
            if faults:
                raise invalid(*faults)
        await next_app(scope, receive, send)


def _faults(scope: HTTPScope, taken: Taken) -> Iterator[Fault]:
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    for name, count in Counter(name for name, _ in query).items():
        if name not in taken.parameters:
            yield Fault(name[:MAX_DISPLAYED], not_known(name[:MAX_DISPLAYED], taken.parameters, "parameter"))
        elif count > 1 and name not in taken.lists:
            yield Fault(name, f"expected it once, got it {count} times")
    if not taken.body and _has_body(scope):
        where = f": {', '.join(sorted(taken.parameters))} are parameters of its query" if taken.parameters else ""
        yield Fault("body", f"this path takes no body{where}")


def _has_body(scope: HTTPScope) -> bool:
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
