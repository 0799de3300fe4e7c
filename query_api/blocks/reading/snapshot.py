"""One snapshot of all statements of a read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.postgres.connections import Connection

_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@asynccontextmanager
async def snapshot(connection: Connection) -> AsyncIterator[None]:
    """Read in one snapshot for the block. A worker that seals or settles meanwhile changes nothing that it sees."""
    async with connection.transaction():
        await connection.execute(_SNAPSHOT)
        yield
