"""Connections to PostgreSQL: opened in one way, their errors translated in one place."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.errors import DatabaseUnreachable

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

CONNECT_TIMEOUT_S = 10
RECONNECT_S = 3
"""A pool tries so long, with growing waits, for a connection that was lost; then the next use starts anew.
Without this bound the wait after a long outage would be minutes."""
KEEPALIVE_S = 30
"""After so long without a word from the server its host is asked whether it still lives."""


def _parameters(application: str) -> dict[str, object]:
    return {
        "application_name": f"devicestat {application}",
        "autocommit": True,  # a transaction is where `async with connection.transaction()` says so
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": KEEPALIVE_S,
        "options": "-c timezone=UTC",
    }


async def connect(url: str, application: str) -> Connection:
    """One connection. Raises DatabaseUnreachable."""
    with translated(url):
        return await AsyncConnection.connect(url, **_parameters(application))  # type: ignore[arg-type]


@asynccontextmanager
async def open_pool(
    url: str, application: str, *, min_size: int = 1, max_size: int = 10, patience: float = CONNECT_TIMEOUT_S
) -> AsyncIterator[Pool]:
    """A pool of connections, which also opens while the server is away: each use then says so.

    `patience`: the seconds that a use waits for a connection before it raises PoolTimeout.
    """
    pool = AsyncConnectionPool(
        url,
        kwargs=_parameters(application),
        min_size=min_size,
        max_size=max_size,
        timeout=patience,
        reconnect_timeout=RECONNECT_S,
        check=AsyncConnectionPool.check_connection,
        name=application,
        open=False,
    )
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turns the driver's failure to connect into DatabaseUnreachable, which never shows the password."""
    try:
        yield
    except (psycopg.OperationalError, PoolTimeout) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise DatabaseUnreachable(
            f"no connection to PostgreSQL at {address(url)}: {reason}. "
            "Is it running, and is DEVICESTAT_DATABASE_URL right?"
        ) from error


def address(url: str) -> str:
    """Host, port and database of the URL, without user and password."""
    given = conninfo_to_dict(url)
    host = given.get("host") or "the default socket"
    return f"{host}:{given.get('port') or 5432}/{given.get('dbname') or ''}"
