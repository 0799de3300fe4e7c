"""PostgreSQL connections and connection pools, with translated errors."""

import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import (
    IdleInTransactionSessionTimeout,
    InFailedSqlTransaction,
    InternalError_,
    ReadOnlySqlTransaction,
    TransactionTimeout,
)
from psycopg.pq import ConnStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.errors import DatabaseError, DatabaseUnreachable, PoolExhausted
from shared.postgres.errors import diagnose, diagnose_connecting
from shared.postgres.session_settings import ENCODING, PINNED, check_encoding, pin

Connection = AsyncConnection[TupleRow]
Prepare = Callable[[Connection], Awaitable[None]]
"""Prepares a new connection."""

_FAILURES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    ReadOnlySqlTransaction,
    IdleInTransactionSessionTimeout,
    TransactionTimeout,
    InternalError_,  # also of a node of a Citus cluster that ends during a statement
    InFailedSqlTransaction,  # the same, of a node to which a transaction can then not return
)
RETRYABLE = (*_FAILURES, DatabaseError)
"""Failures of the server, the connection or the pool, after which a service retries. A pool raises a DatabaseError, any
other connection the driver's error; `shared.postgres.errors.diagnose` translates both."""
CONNECT_TIMEOUT_S = 10
RECONNECT_S = 3
"""Time that a pool retries a lost connection with growing delays; the next use starts again. Without this limit the
delay after a long outage would be minutes."""
KEEPALIVE_S = 30
"""Silence before a TCP keepalive probe."""
KEEPALIVE_PROBES = 3
KEEPALIVE_INTERVAL_S = 10
"""Probes and their interval; then the connection is lost."""
UNANSWERED_MS = 60_000
"""Time without acknowledgement of sent data after which the connection is lost."""


def _parameters(application: str) -> dict[str, object]:
    return {
        "client_encoding": ENCODING,
        "application_name": f"devicestat {application}",
        "autocommit": True,  # transactions begin with `async with connection.transaction()`
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": KEEPALIVE_S,
        "keepalives_interval": KEEPALIVE_INTERVAL_S,
        "keepalives_count": KEEPALIVE_PROBES,
        "tcp_user_timeout": UNANSWERED_MS,
    }


async def connect(url: str, application: str) -> Connection:
    """Open a connection. Raises DatabaseUnreachable, or DatabaseError if the database's encoding is not UTF-8."""
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


class Pool(AsyncConnectionPool[Connection]):
    """Connection pool for short work. `connection` translates errors to those of `shared.errors`."""

    def __init__(self, url: str, name: str, configure: Prepare, size: tuple[int, int], patience: float) -> None:
        """`configure`: called with each new connection. `size`: minimum and maximum of connections.

        `patience`: seconds to wait for a connection.
        """
        self._address = address(url)
        self._in_use = 0
        self._failure: Exception | None = None
        super().__init__(
            url,
            kwargs=_parameters(name),
            connection_class=self._recording(),
            configure=configure,
            min_size=size[0],
            max_size=size[1],
            timeout=patience,
            reconnect_timeout=RECONNECT_S,
            check=_check_still_open,
            name=name,
            open=False,
        )

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109  # as psycopg_pool has it
        """Lend a connection for the block; raise its failures as DatabaseError. Raises what `getconn` raises."""
        async with super().connection(timeout) as connection:
            try:
                yield connection
            except _FAILURES as error:
                raise diagnose(error) from error

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109  # as psycopg_pool has it
        """Take a connection out of the pool. Raises PoolExhausted or DatabaseUnreachable after `timeout` seconds."""
        try:
            connection = await super().getconn(timeout)
        except PoolTimeout as error:
            raise self._why_none(self.timeout if timeout is None else timeout) from (self._failure or error)
        self._in_use += 1
        return connection

    async def putconn(self, conn: Connection) -> None:
        """Return a connection to the pool."""
        self._in_use -= 1
        await super().putconn(conn)

    def _why_none(self, waited: float) -> DatabaseError:
        if self._in_use >= self.max_size:
            return PoolExhausted(f"all {self.max_size} connections for {self.name} were in use for {waited:g} s")
        if self._failure is not None:
            return diagnose_connecting(self._failure, self._address)
        return DatabaseUnreachable(f"no connection to PostgreSQL at {self._address}: no response within {waited:g} s")

    def _recording(self) -> type[Connection]:
        """Return a connection class that records why the last attempt to connect failed."""
        pool = self

        class Recording(AsyncConnection[TupleRow]):
            @classmethod
            async def connect(cls, *args: Any, **kwargs: Any) -> Self:
                try:
                    connection = await super().connect(*args, **kwargs)
                except psycopg.Error as error:
                    pool._failure = error
                    raise
                pool._failure = None
                return connection

        return Recording


@asynccontextmanager
async def open_pool(
    url: str,
    application: str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    patience: float = CONNECT_TIMEOUT_S,
    statement_timeout: int | None = None,
    settings: Mapping[str, str] = PINNED,
) -> AsyncIterator[Pool]:
    """Open a pool of connections for the block, even if the server is unreachable.

    `patience`: seconds to wait for a connection, before PoolExhausted or DatabaseUnreachable is raised.
    `statement_timeout`: seconds after which the server cancels a statement (QueryCutOff).
    `settings`: of each connection, besides PINNED.
    """
    configure = partial(pin, statement_timeout_s=statement_timeout or 0, more=settings)
    pool = Pool(url, application, configure, (min_size, max_size), patience)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


async def _check_still_open(connection: Connection) -> None:
    """Raise OperationalError if the server has closed the connection since its last use.

    A closed connection's socket is readable, so this needs no round trip to the server, unlike SELECT 1.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    while poll.poll(0):
        connection.pgconn.consume_input()  # reads a notice; raises at the end of the stream
    if connection.pgconn.status != ConnStatus.OK:
        raise psycopg.OperationalError("the connection was lost while idle")


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise the driver's failure to connect as a DatabaseError, without the password."""
    try:
        yield
    except _FAILURES as error:
        raise diagnose_connecting(error, address(url)) from error


@contextmanager
def refusals_translated() -> Iterator[None]:
    """Raise the driver's errors on an open connection as DatabaseError."""
    try:
        yield
    except psycopg.Error as error:
        raise diagnose(error) from error


def address(url: str) -> str:
    """Return host, port and database of the URL, without user and password."""
    given = conninfo_to_dict(url)
    host = str(given.get("host") or given.get("hostaddr") or "the default socket")
    if ":" in host and "," not in host:
        host = f"[{host}]"
    return f"{host}:{given.get('port') or 5432}/{given.get('dbname') or ''}"
