"""One snapshot of all statements of a read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import LiteralString

import psycopg

from shared.postgres.connections import Connection

_BEGIN: LiteralString = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@asynccontextmanager
async def snapshot(connection: Connection, settings: LiteralString = "") -> AsyncIterator[None]:
    """Read in one snapshot for the block. A worker that seals or settles meanwhile changes nothing that it sees.

    The connection is not in a transaction. `settings`: SET LOCAL statements, which are sent with BEGIN.
    """
    await connection.execute(f"{_BEGIN}; {settings}", prepare=False)
    try:
        yield
    except BaseException:
        with suppress(psycopg.Error):  # of a lost connection, whose error is raised already
            await connection.rollback()
        raise
    await connection.commit()
