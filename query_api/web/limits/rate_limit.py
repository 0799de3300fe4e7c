"""So many requests a minute for each caller: Litestar's limiter, with counts of our own.

Litestar's keeps the time of each request of the minute, as JSON, in a store, and takes turns at it: at 6000 a minute
that is 110 to 400 us a request. It only ever uses how many there are. A number for each caller of the minute that runs
is 4 us, and takes no sweeping: the next minute begins with none.

The counts are of this process. The window is one for all callers, so that nothing outlasts it.
"""

from dataclasses import dataclass, field
from time import monotonic, time
from typing import cast

from litestar.exceptions import TooManyRequestsException
from litestar.middleware import DefineMiddleware
from litestar.middleware.rate_limit import DURATION_VALUES, CacheObject, RateLimitConfig, RateLimitMiddleware
from litestar.types import Message, Receive, Scope, Send

from query_api.access.rules import OPTION, Access
from query_api.web.limits.callers import Callers
from query_api.web.limits.window import Window

_UNLIMITED = (Access.OPEN, Access.BROKER)


@dataclass
class RequestsAMinute(RateLimitConfig):
    """What the limiter is made with. One for each application: its routes count together."""

    callers: Callers = field(default_factory=Callers)
    window: Window = field(default_factory=lambda: Window(DURATION_VALUES["minute"], monotonic))


def requests_a_minute(limit: int) -> list[DefineMiddleware]:
    """The limiter, as the outermost of an application's middleware; none where the limit is 0."""
    if not limit:
        return []
    config = RequestsAMinute(("minute", limit))
    config.middleware_class = RequestLimit
    return [config.middleware]


class RequestLimit(RateLimitMiddleware):
    """Stands before a route.

    What is open to anybody is not limited: it tells whether the process runs. Neither are the questions of brokers: all
    of a broker's devices come from its one address.
    """

    config: RequestsAMinute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises TooManyRequestsException, before anything is asked of the database."""
        if scope["route_handler"].opt.get(OPTION) in _UNLIMITED:
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
        """Those of Litestar, which asks of the history only how long it is."""
        history = cast("list[int]", range(min(count, self.max_requests)))
        return self.create_response_headers(CacheObject(history, int(time()) + self.config.window.ends_in))
