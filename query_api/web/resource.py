"""A router for the paths of one resource."""

from litestar import Router
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import ControllerRouterHandler


class Resource(Router):
    """A router whose answers to OPTIONS list every method of the path.

    Litestar creates the answer with the first handler of a path, and does not update it for later handlers.
    """

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        """Register the handler, and let Litestar create the answer to OPTIONS again."""
        for route in self.routes:
            if isinstance(route, HTTPRoute):
                route.route_handlers = [h for h in route.route_handlers if "OPTIONS" not in h.http_methods]
        return super().register(value)
