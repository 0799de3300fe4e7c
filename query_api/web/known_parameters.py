"""No parameter of a query is passed over: one that is not known, or that comes twice, is refused (422).

An analyst who writes `from` for `start` would get figures over all time, and never know. What each route takes is
read from its handler and the handler's dependencies, once, so that no route can forget it.
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


class Taken(msgspec.Struct, frozen=True):
    """What a route takes: its parameters, those of them that are lists, and whether it takes a body."""

    parameters: frozenset[str]
    lists: frozenset[str]
    body: bool


class KnownParameters(ASGIMiddleware):
    """Stands before every route, once it has learnt what each takes."""

    def __init__(self) -> None:
        self._taken: dict[BaseRouteHandler, Taken] = {}

    def learn(self, app: Litestar) -> None:
        """Reads what each route of the application takes."""
        for route in app.routes:
            if isinstance(route, HTTPRoute):
                for handler, model in route.route_handler_map.values():
                    parameters = model.expected_query_params
                    self._taken[handler] = Taken(
                        frozenset(parameter.field_alias for parameter in parameters),
                        frozenset(parameter.field_alias for parameter in parameters if parameter.is_sequence),
                        handler.parsed_data_field is not None,
                    )

    def of(self, handler: BaseRouteHandler) -> Taken:
        """What the handler's route takes."""
        return self._taken[handler]

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Lets the request pass. Raises Refused, with each parameter that is wrong."""
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
