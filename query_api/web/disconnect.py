"""Cancel the work of a request, and its query in the database, when the client disconnects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar.types import Receive

from query_api.web.answers.problems import AnyRequest


class ClientGone(Exception):
    """The client disconnected, so the response cannot be sent."""


@asynccontextmanager
async def cancelled_when_gone(request: AnyRequest) -> AsyncIterator[None]:
    """Cancel the block when the client disconnects, and raise ClientGone.

    psycopg cancels the statement of a cancelled task, and the connection stays usable. So the connection is taken
    outside of the block:

        async with database.connection() as connection, cancelled_when_gone(request):
    """
    limit = asyncio.timeout(None)
    try:
        async with limit:
            watching = asyncio.create_task(_expire_when_gone(request.receive, limit), name="client watch")
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        if limit.expired():
            raise ClientGone from None
        raise


async def _expire_when_gone(receive: Receive, limit: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # a body, or the end of one
    limit.reschedule(asyncio.get_running_loop().time())
