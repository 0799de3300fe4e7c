"""A service with a full pool, a lock or a cancelled statement reports it, and stays ready."""

import asyncio
import functools

import httpx
import msgspec
import pytest
from litestar import Litestar, get
from litestar.testing import AsyncTestClient

from ingestor.storing.database_connection import BUSY_ATTEMPTS, DatabaseConnection
from query_api.access.rules import Permission
from query_api.serve.pools import QUICK
from query_api.serve.tuning import Tuning
from query_api.web.failures import HANDLERS
from query_api.worker import tuning as worker_tuning
from shared import errors
from shared.postgres.connections import Connection, connect
from shared.serving.telemetry import Health
from shared.settings import Settings
from tests import locks, services
from tests.conftest import Database
from tests.integration.test_problems import assert_problem
from tests.ports import free_port
from tests.waiting import eventually

ANSWERS: dict[type[errors.DatabaseError], tuple[int, str, bool]] = {
    errors.DatabaseUnreachable: (503, "unavailable", True),
    errors.DatabaseNotReady: (503, "unavailable", True),
    errors.TooManyConnections: (503, "unavailable", True),
    errors.LoginRefused: (503, "unavailable", True),
    errors.DatabaseReadOnly: (503, "unavailable", True),
    errors.PoolExhausted: (503, "busy", True),
    errors.QueryCancelled: (503, "busy", True),
    errors.LockTimedOut: (503, "busy", True),
    errors.Deadlock: (503, "busy", True),
    errors.OutOfMemory: (503, "database-lacks-resources", True),
    errors.OutOfLockMemory: (503, "database-lacks-resources", True),
    errors.DiskFull: (503, "database-lacks-resources", True),
    errors.QueryCutOff: (503, "took-too-long", False),
    errors.StatementRefused: (500, "internal-error", False),
    errors.ServerFault: (500, "internal-error", False),
}
"""The status, the problem, and whether Retry-After says when to try again."""


@pytest.mark.parametrize(("kind", "expected"), ANSWERS.items())
async def test_each_kind_of_error_has_its_response(
    kind: type[errors.DatabaseError], expected: tuple[int, str, bool]
) -> None:
    @get("/", permission=Permission.OPEN)
    async def fail() -> None:
        raise kind("words of PostgreSQL that a client is not shown: table secrets")

    async with AsyncTestClient(Litestar([fail], exception_handlers=HANDLERS)) as client:
        answer = await client.get("/")
    details = assert_problem(answer, expected[0])
    assert (details["type"], "retry-after" in answer.headers) == (f"/problems/{expected[1]}", expected[2])
    assert "secrets" not in answer.text


async def test_a_full_pool_is_busy_and_the_api_is_ready(api_settings: Settings, database: Database) -> None:
    async with services.api(api_settings, Tuning(pool_wait_s=0.2)) as api, asyncio.TaskGroup() as tasks:
        async with database.transaction():
            await database.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
            reads: list[asyncio.Task[httpx.Response]] = [tasks.create_task(api.get("/devices/1")) for _ in range(QUICK)]
            await eventually(lambda: locks.waiting(database), lambda seen: len(seen) >= QUICK)
            answer = await api.get("/devices/1")
            assert assert_problem(answer, 503)["type"] == "/problems/busy"
            assert "all connections for such requests are in use" in answer.json()["detail"]
            assert int(answer.headers["retry-after"]) > 0
            assert (await api.get("/health/ready")).status_code == 200
        assert {(await read).status_code for read in reads} == {404}


async def test_an_ingestor_is_ready_while_one_attempt_is_delayed(database_url: str) -> None:
    """It logs the kind of error, and retries. If that continues, or the server lacks a resource, it is not ready."""
    health = Health("database")
    health.ready("database")
    seen: list[dict[str, str]] = []
    failing = {"left": 1}

    async def attempt(statement: bytes, connection: Connection) -> None:
        seen.append(health.report())
        if failing["left"]:
            failing["left"] -= 1
            async with connection.transaction():
                await connection.execute(statement)

    ingestor = DatabaseConnection(database_url, health)
    async with await connect(database_url, "holder") as holder, holder.transaction():
        await holder.execute("LOCK TABLE devices")
        locked = functools.partial(attempt, b"LOCK TABLE devices NOWAIT")
        await ingestor.retry_forever(locked)
        assert [report["database"] for report in seen] == ["ok", "ok"]
        seen.clear()
        failing["left"] = BUSY_ATTEMPTS
        await ingestor.retry_forever(locked)
        assert "another transaction holds a lock" in seen[-1]["database"]
        assert {report["database"] for report in seen[:-1]} == {"ok"}
        assert health.is_ready
    seen.clear()
    failing["left"] = 1
    await ingestor.retry_forever(
        functools.partial(attempt, b"SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 10000000) AS n")
    )
    assert "PostgreSQL is out of lock memory" in seen[-1]["database"]
    assert "Raise max_locks_per_transaction" in seen[-1]["database"]
    assert health.is_ready
    await ingestor.close()


async def test_a_worker_whose_statement_is_cancelled_is_ready(
    api_settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    cancel = """
        SELECT pg_cancel_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'devicestat worker' AND datname = current_database() AND wait_event_type = 'Lock'
    """
    port = free_port()
    logged = ""

    async def cancelled() -> int:
        return (await database.execute(cancel)).rowcount

    async def put_off() -> bool:
        nonlocal logged
        logged += "".join(capsys.readouterr())
        return "a job was delayed: the database is busy" in logged

    async with services.worker(msgspec.structs.replace(api_settings, worker_metrics_port=port)):
        await eventually(lambda: services.is_ready(port), bool)
        async with database.transaction():
            await database.execute("LOCK TABLE analysis_requests IN ACCESS EXCLUSIVE MODE")
            await eventually(cancelled, bool)
            await eventually(put_off, bool)
            assert await services.is_ready(port)
    assert "the query was cancelled in PostgreSQL" in logged


_FAILING = """
    CREATE OR REPLACE FUNCTION empty_readings_months() RETURNS SETOF text LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'server closed the connection unexpectedly' USING ERRCODE = 'internal_error'; END $$
"""
_WORKING = """
    CREATE OR REPLACE FUNCTION empty_readings_months() RETURNS SETOF text LANGUAGE sql AS 'SELECT NULL WHERE false'
"""


async def test_a_worker_outlives_an_internal_error(api_settings: Settings, database: Database) -> None:
    """A Citus cluster reports so that a node has ended during a statement."""
    port = free_port()
    await database.execute(_FAILING)
    settings = msgspec.structs.replace(api_settings, worker_metrics_port=port)
    async with services.worker(settings, worker_tuning.Tuning(maintain_s=0.1)):
        await eventually(functools.partial(_named, port), bool)
        await database.execute(_WORKING)
        await eventually(lambda: services.is_ready(port), bool)


async def _named(port: int) -> bool:
    async with services.client_of(port) as client:
        try:
            return "PostgreSQL has failed: server closed" in (await client.get("/health/ready")).text
        except httpx.TransportError:
            return False
