"""One snapshot of all statements of a read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg

from shared.postgres.connections import Connection

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@asynccontextmanager
async def snapshot(connection: Connection) -> AsyncIterator[None]:
    """Read in one snapshot for the block. A worker that seals or settles meanwhile changes nothing that it sees.

    The connection is not in a transaction. BEGIN has the isolation level, which saves a round trip of SET TRANSACTION.
    """
    await connection.execute(_BEGIN, prepare=False)
    try:
        yield
    except BaseException:
        with suppress(psycopg.Error):  # of a lost connection, whose error is raised already
            await connection.rollback()
        raise
    await connection.commit()
