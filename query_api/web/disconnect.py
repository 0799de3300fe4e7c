"""A client that goes away ends what it waited for: its query stops in the database, too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar.types import Receive

from query_api.web.answers.problems import AnyRequest


class ClientGone(Exception):
    """The client has hung up: nobody reads the answer."""


@asynccontextmanager
async def cancelled_when_gone(request: AnyRequest) -> AsyncIterator[None]:
    """The block is cancelled when the client hangs up, and raises ClientGone.

    psycopg cancels the statement that a cancelled task waits for, and the connection can be used again. So
    the connection is taken outside of the block, and given back after it:

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
