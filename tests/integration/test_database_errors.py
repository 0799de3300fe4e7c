"""Each failure of PostgreSQL, provoked on a real server, becomes the right error."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from deploy.local.postgres import EmbeddedPostgres
from shared.errors import (
    DatabaseError,
    DatabaseNotReady,
    DatabaseReadOnly,
    DatabaseUnreachable,
    Deadlock,
    LockTimedOut,
    LoginRefused,
    OutOfLockMemory,
    OutOfResources,
    PoolExhausted,
    QueryCancelled,
    QueryCutOff,
    StatementRefused,
    TooManyConnections,
)
from shared.postgres.connections import Connection, Pool, connect, open_pool
from shared.postgres.errors import diagnose
from tests import locks
from tests.waiting import eventually

_SMALL = {"max_connections": "20", "max_locks_per_transaction": "10", "fsync": "off", "max_wal_senders": "0"}


@pytest.fixture(scope="module")
def small_postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL with few connections and few locks."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory, EmbeddedPostgres(Path(directory), _SMALL) as postgres:
        yield postgres


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "two", max_size=2, patience=0.1) as pool:
        yield pool


async def fault(pool: Pool, *statements: str) -> DatabaseError:
    """Return the pool's error for the last of the statements."""
    with pytest.raises(DatabaseError) as raised:
        await _execute(pool, statements)
    return raised.value


async def _execute(pool: Pool, statements: Sequence[str]) -> None:
    async with pool.connection() as connection:
        for statement in statements:
            await connection.execute(statement.encode())


async def _occupy(url: str, stack: AsyncExitStack) -> None:
    """Connect until PostgreSQL refuses."""
    while True:
        await stack.enter_async_context(await connect(url, "one of many"))


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[Connection]:
    async with await connect(url, "holder") as holder, holder.transaction():
        await holder.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
        yield holder


async def test_the_pool_is_full(pool: Pool) -> None:
    async with pool.connection(), pool.connection():
        with pytest.raises(PoolExhausted, match="all 2 connections for two were in use"):
            async with pool.connection():
                pass
    async with pool.connection() as connection:
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def test_the_server_is_away() -> None:
    async with open_pool("postgresql://nobody@127.0.0.1:1/d", "away", max_size=2, patience=0.5) as pool:
        with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1:1/d: .*refused"):
            async with pool.connection():
                pass


async def test_a_statement_runs_too_long(pool: Pool) -> None:
    assert type(await fault(pool, "SET statement_timeout = '10ms'", "SELECT pg_sleep(60)")) is QueryCutOff


async def test_somebody_cancels_a_statement(pool: Pool, database: Connection) -> None:
    waiting = asyncio.create_task(fault(pool, "SELECT pg_sleep(60)"))
    await _signalled(database, "pg_cancel_backend")
    assert type(await waiting) is QueryCancelled


async def test_an_operator_ends_the_connection(pool: Pool, database: Connection) -> None:
    waiting = asyncio.create_task(fault(pool, "SELECT pg_sleep(60)"))
    await _signalled(database, "pg_terminate_backend")
    error = await waiting
    assert (type(error), error.sqlstate) == (DatabaseUnreachable, "57P01")


async def _signalled(database: Connection, function: str) -> None:
    query = (
        f"SELECT {function}(pid) FROM pg_stat_activity WHERE datname = current_database() "  # noqa: S608
        "AND application_name LIKE '%two' AND wait_event = 'PgSleep'"
    )

    async def signal_it() -> int:
        return (await database.execute(query.encode())).rowcount

    await eventually(signal_it, bool)


async def test_a_lock_is_not_had_in_time(pool: Pool, database_url: str) -> None:
    async with locked(database_url):
        assert type(await fault(pool, "SET lock_timeout = '10ms'", "TABLE devices")) is LockTimedOut
        assert type(await fault(pool, "BEGIN", "LOCK TABLE devices NOWAIT")) is LockTimedOut


async def test_a_deadlock(pool: Pool, database: Connection, database_url: str) -> None:
    """A connection checks for a deadlock once, after its deadlock_timeout: by then the other one must wait for it."""

    async def cross() -> None:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL deadlock_timeout = '10ms'")
            await connection.execute("LOCK TABLE dead_letters")
            locked.set()
            await other_waits.wait()
            await connection.execute("LOCK TABLE devices")

    locked, other_waits = asyncio.Event(), asyncio.Event()
    async with await connect(database_url, "other") as other, other.transaction():
        await other.execute("SET LOCAL deadlock_timeout = '60s'")
        await other.execute("LOCK TABLE devices")
        crossing = asyncio.create_task(cross())
        await locked.wait()
        waiting = asyncio.create_task(other.execute("LOCK TABLE dead_letters"))
        await eventually(lambda: locks.waiting(database, "dead_letters"), bool)
        other_waits.set()
        with pytest.raises(Deadlock):
            await crossing
        await waiting


async def test_a_read_only_database(pool: Pool) -> None:
    statements = "SET default_transaction_read_only = on", "DELETE FROM devices"
    assert type(await fault(pool, *statements)) is DatabaseReadOnly


async def test_a_limit_on_temporary_files(pool: Pool) -> None:
    query = "SELECT count(*) FROM (SELECT n FROM generate_series(1, 100000) n ORDER BY md5(n::text)) AS sorted"
    assert type(await fault(pool, "SET work_mem = '64kB'", "SET temp_file_limit = '64kB'", query)) is OutOfResources


async def test_what_fails_again_is_not_retried(pool: Pool) -> None:
    """A pool raises the driver's error for a fault of the statement."""
    with pytest.raises(psycopg.errors.UndefinedTable) as raised:
        async with pool.connection() as connection:
            await connection.execute("TABLE nothing")
    assert type(diagnose(raised.value)) is StatementRefused


async def test_the_lock_table_is_full(small_postgres: EmbeddedPostgres) -> None:
    async with await connect(small_postgres.url, "test") as connection:
        with pytest.raises(psycopg.OperationalError) as raised:
            await connection.execute("SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 1000000) AS n")
    error = diagnose(raised.value)
    assert type(error) is OutOfLockMemory
    assert "PostgreSQL is out of lock memory" in str(error)
    assert "Raise max_locks_per_transaction" in str(error)


async def test_there_are_too_many_connections(small_postgres: EmbeddedPostgres) -> None:
    url = small_postgres.url
    async with AsyncExitStack() as stack:
        with pytest.raises(TooManyConnections, match="Raise max_connections"):
            await _occupy(url, stack)
        async with open_pool(url, "late", patience=0.5) as pool:
            with pytest.raises(TooManyConnections):
                async with pool.connection():
                    pass


async def test_the_login_is_refused(small_postgres: EmbeddedPostgres) -> None:
    with pytest.raises(LoginRefused, match="DEVICESTAT_DATABASE_URL right"):
        await connect(small_postgres.url_of("nothing"), "test")


async def test_the_server_shuts_down() -> None:
    """A smart shutdown waits for its clients, and refuses new ones."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory, EmbeddedPostgres(Path(directory), _SMALL) as postgres:
        async with await connect(postgres.url, "client"):
            postmaster = int((postgres.data / "postmaster.pid").read_text().split()[0])
            os.kill(postmaster, signal.SIGTERM)

            async def refusal() -> DatabaseError | None:
                try:
                    await (await connect(postgres.url, "late")).close()
                except DatabaseError as error:
                    return error
                return None

            error = await eventually(refusal, bool)
            assert type(error) is DatabaseNotReady
            assert error.passes
