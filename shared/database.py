"""Connections to PostgreSQL: opened in one way, their errors translated in one place."""

import select
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction
from psycopg.pq import ConnStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.errors import DatabaseError, DatabaseUnreachable
from shared.session_settings import ENCODING, check_encoding, pin

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

AWAY = (psycopg.OperationalError, psycopg.InterfaceError, ReadOnlySqlTransaction)
"""The database does not answer, went away in the middle, or takes no writes for now: what was to be done is done later.
The pool's own errors are among them."""
CONNECT_TIMEOUT_S = 10
RECONNECT_S = 3
"""A pool tries so long, with growing waits, for a connection that was lost; then the next use starts anew.
Without this bound the wait after a long outage would be minutes."""
KEEPALIVE_S = 30
"""After so long without a word from the server its host is asked whether it still lives."""
KEEPALIVE_PROBES = 3
KEEPALIVE_INTERVAL_S = 10
"""It is asked so often, with such pauses; then the connection is lost."""
UNANSWERED_MS = 60_000
"""What was sent and is not received by the server's host within this time loses the connection, too."""


def _parameters(application: str) -> dict[str, object]:
    return {
        "client_encoding": ENCODING,
        "application_name": f"devicestat {application}",
        "autocommit": True,  # a transaction is where `async with connection.transaction()` says so
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": KEEPALIVE_S,
        "keepalives_interval": KEEPALIVE_INTERVAL_S,
        "keepalives_count": KEEPALIVE_PROBES,
        "tcp_user_timeout": UNANSWERED_MS,
    }


async def connect(url: str, application: str) -> Connection:
    """One connection. Raises DatabaseUnreachable, and DatabaseError where the database's encoding is not UTF-8."""
    with translated(url):
        connection = await AsyncConnection.connect(url, **_parameters(application))  # type: ignore[arg-type]
    try:
        check_encoding(connection, address(url))
        with translated(url):
            await pin(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


@asynccontextmanager
async def open_pool(
    url: str,
    application: str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    patience: float = CONNECT_TIMEOUT_S,
    statement_timeout: int | None = None,
) -> AsyncIterator[Pool]:
    """A pool of connections, which also opens while the server is away: each use then says so.

    `patience`: the seconds that a use waits for a connection before it raises PoolTimeout.
    `statement_timeout`: the seconds after which the server cuts a statement off (QueryCanceled).
    """
    pool = AsyncConnectionPool(
        url,
        kwargs=_parameters(application),
        configure=partial(pin, statement_timeout_s=statement_timeout or 0),
        min_size=min_size,
        max_size=max_size,
        timeout=patience,
        reconnect_timeout=RECONNECT_S,
        check=_check_still_open,
        name=application,
        open=False,
    )
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


async def _check_still_open(connection: Connection) -> None:
    """Raises OperationalError where the server has closed the connection since its last use.

    That makes its socket readable, so it costs no round trip to the server as SELECT 1 would.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    while poll.poll(0):
        connection.pgconn.consume_input()  # a notice is taken in; at the end of the stream this raises
    if connection.pgconn.status != ConnStatus.OK:
        raise psycopg.OperationalError("the connection was lost while nobody used it")


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turns the driver's failure to connect into DatabaseUnreachable, which never shows the password."""
    try:
        yield
    except (psycopg.OperationalError, PoolTimeout) as error:
        reason = _reason(error)
        advice = "Is" if "FATAL" in reason else "Is it running, and is"  # FATAL: a server has answered
        raise DatabaseUnreachable(
            f"no connection to PostgreSQL at {address(url)}: {reason}. {advice} DEVICESTAT_DATABASE_URL right?"
        ) from error


@contextmanager
def refusals_translated() -> Iterator[None]:
    """Turns what a server that answers refuses to do into DatabaseError."""
    try:
        yield
    except psycopg.Error as error:
        raise DatabaseError(f"PostgreSQL refuses: {_reason(error)}. {_ADVICE.get(type(error), '')}".rstrip()) from error


_ADVICE: dict[type[Exception], str] = {
    InsufficientPrivilege: "Grant the role in DEVICESTAT_DATABASE_URL what it lacks, as `devicestat migrate --roles` "
    "does for the services' own roles, or use the tables' owner",
    ReadOnlySqlTransaction: "Is this a standby? DEVICESTAT_DATABASE_URL names the primary",
}
# What libpq adds to its reasons, and what it says of several addresses of one host before each of theirs.
_NOISE = ("Is the server running", "Multiple connection attempts failed", "All failures were")


def _reason(error: Exception) -> str:
    lines = [line.strip(" \t-.") for line in str(error).splitlines()]
    said = "; ".join(line for line in lines if line and not line.startswith(_NOISE))
    return said.removeprefix("connection failed: ") or type(error).__name__


def address(url: str) -> str:
    """Host, port and database of the URL, without user and password."""
    given = conninfo_to_dict(url)
    host = given.get("host") or "the default socket"
    return f"{host}:{given.get('port') or 5432}/{given.get('dbname') or ''}"
