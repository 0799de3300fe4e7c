"""Connections to PostgreSQL: opened in one way, their errors translated in one place."""

import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import IdleInTransactionSessionTimeout, ReadOnlySqlTransaction
from psycopg.pq import ConnStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.errors import DatabaseError, DatabaseUnreachable, PoolExhausted
from shared.postgres.errors import diagnose, diagnose_connecting
from shared.postgres.session_settings import ENCODING, check_encoding, pin

Connection = AsyncConnection[TupleRow]
Prepare = Callable[[Connection], Awaitable[None]]
"""Makes a new connection ready for use."""

_FAILURES = (psycopg.OperationalError, psycopg.InterfaceError, ReadOnlySqlTransaction, IdleInTransactionSessionTimeout)
RETRYABLE = (*_FAILURES, DatabaseError)
"""Failures of the server, the connection or the pool: a running service tries the same work again later. A pool raises
a DatabaseError, another connection the driver's error; `shared.postgres.errors.diagnose` says what either means."""
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


class Pool(AsyncConnectionPool[Connection]):
    """Connections for work that is short. Its errors are those of `shared.errors`, translated in `connection`."""

    def __init__(self, url: str, name: str, configure: Prepare, size: tuple[int, int], patience: float) -> None:
        """`configure`: called with each new connection. `size`: the least and the most connections.

        `patience`: seconds that a use waits for a connection.
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
        """Lend a connection for the block, whose failures are raised as DatabaseError. Raises what `getconn` raises."""
        async with super().connection(timeout) as connection:
            try:
                yield connection
            except _FAILURES as error:
                raise diagnose(error) from error

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109  # as psycopg_pool has it
        """Take a connection out of the pool. Raises PoolExhausted or DatabaseUnreachable after the timeout, seconds."""
        try:
            connection = await super().getconn(timeout)
        except PoolTimeout as error:
            raise self._why_none(self.timeout if timeout is None else timeout) from (self._failure or error)
        self._in_use += 1
        return connection

    async def putconn(self, conn: Connection) -> None:
        """Give a connection back."""
        self._in_use -= 1
        await super().putconn(conn)

    def _why_none(self, waited: float) -> DatabaseError:
        if self._in_use >= self.max_size:
            return PoolExhausted(f"all {self.max_size} connections for {self.name} were in use for {waited:g} s")
        if self._failure is not None:
            return diagnose_connecting(self._failure, self._address)
        return DatabaseUnreachable(f"no connection to PostgreSQL at {self._address}: no answer within {waited:g} s")

    def _recording(self) -> type[Connection]:
        """Return a class of connections that notes why the last one could not be made."""
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
) -> AsyncIterator[Pool]:
    """A pool of connections, which also opens while the server is away: each use then says so.

    `patience`: the seconds that a use waits for a connection before it raises PoolExhausted, or DatabaseUnreachable.
    `statement_timeout`: the seconds after which the server cuts a statement off (QueryCutOff).
    """
    configure = partial(pin, statement_timeout_s=statement_timeout or 0)
    pool = Pool(url, application, configure, (min_size, max_size), patience)
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
    """Turns the driver's failure to connect into a DatabaseError, which never shows the password."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise diagnose_connecting(error, address(url)) from error


@contextmanager
def refusals_translated() -> Iterator[None]:
    """Turns what the driver raises over an open connection into DatabaseError."""
    try:
        yield
    except psycopg.Error as error:
        raise diagnose(error) from error


def address(url: str) -> str:
    """Host, port and database of the URL, without user and password."""
    given = conninfo_to_dict(url)
    host = given.get("host") or "the default socket"
    return f"{host}:{given.get('port') or 5432}/{given.get('dbname') or ''}"
