"""Limit the requests per minute of each caller: Litestar's limiter with a counter instead of its store.

Litestar's limiter keeps the time of each request as JSON in a store behind a lock, and uses only their number. It costs
110 to 400 us per request at 6,000 per minute. A counter per caller costs 4 us, and needs no cleanup.

The counts are per process. One window serves all callers, and its end clears all counts.
"""

from dataclasses import dataclass, field
from time import monotonic, time
from typing import cast

from litestar.exceptions import TooManyRequestsException
from litestar.middleware import DefineMiddleware
from litestar.middleware.rate_limit import DURATION_VALUES, CacheObject, RateLimitConfig, RateLimitMiddleware
from litestar.types import Message, Receive, Scope, Send

from query_api.access.rules import OPTION, Permission
from query_api.web.limits.callers import Callers
from query_api.web.limits.window import Window

_UNLIMITED = (Permission.OPEN, Permission.BROKER)
UNCOUNTED = "uncounted"
"""The option of a route whose requests do not count: files in memory, of which one page needs many."""


@dataclass
class RequestsAMinute(RateLimitConfig):
    """Configuration of the limiter. All routes of an application share it."""

    callers: Callers = field(default_factory=Callers)
    window: Window = field(default_factory=lambda: Window(DURATION_VALUES["minute"], monotonic))


def requests_a_minute(limit: int) -> list[DefineMiddleware]:
    """Return the limiter as middleware; none if the limit is 0."""
    if not limit:
        return []
    config = RequestsAMinute(("minute", limit))
    config.middleware_class = RequestLimit
    return [config.middleware]


class RequestLimit(RateLimitMiddleware):
    """The limiter.

    It excludes health checks, files of pages, and the requests of brokers, as all devices of a broker share one
    address.
    """

    config: RequestsAMinute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise TooManyRequestsException before the database is used."""
        options = scope["route_handler"].opt
        if options.get(OPTION) in _UNLIMITED or options.get(UNCOUNTED):
            await self.app(scope, receive, send)
            return
        callers, window = self.config.callers, self.config.window
        count = window.add(callers.of(scope))
        if count > self.max_requests:
            raise TooManyRequestsException(headers={**self._headers(count), "Retry-After": str(window.ends_in)})

        async def send_with_limit(message: Message) -> None:
            if message["type"] == "http.response.start":
                callers.learn(scope)
                headers = self._headers(count).items()
                message["headers"] = [*message["headers"], *((k.lower().encode(), v.encode()) for k, v in headers)]
            await send(message)

        await self.app(scope, receive, send_with_limit)

    def _headers(self, count: int) -> dict[str, str]:
        """Return the headers of Litestar, which uses only the length of the history."""
        history = cast("list[int]", range(min(count, self.max_requests)))
        return self.create_response_headers(CacheObject(history, int(time()) + self.config.window.ends_in))
