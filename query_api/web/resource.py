"""A router for the paths of one resource."""

from litestar import Router
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import ControllerRouterHandler


class Resource(Router):
    """A router whose answers to OPTIONS list every method of the path.

    Litestar adds the answer with a path's first handler, and keeps it, with that one's methods, when others
    follow.
    """

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        """Registers the handler, and lets the answer to OPTIONS be made anew."""
        for route in self.routes:
            if isinstance(route, HTTPRoute):
                route.route_handlers = [h for h in route.route_handlers if "OPTIONS" not in h.http_methods]
        return super().register(value)
