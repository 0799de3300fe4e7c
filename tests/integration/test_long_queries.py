"""Long queries: cancelled after QUERY_TIMEOUT, and when the client disconnects."""

import asyncio
import select
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from query_api.analyses import immediate
from query_api.serve.pools import SLOW
from shared.postgres.connections import Connection, connect, open_pool
from shared.settings import Settings
from tests import services
from tests.integration.test_analysis import AXES, NO_READINGS
from tests.waiting import eventually

Database = psycopg.AsyncConnection[Any]
_RUNNING = """
    SELECT pid, wait_event_type FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'devicestat api%' AND state = 'active'
"""


async def running_queries(database: Database) -> Sequence[tuple[int, str]]:
    """Return the queries of the API by process id, with their wait events."""
    return await (await database.execute(_RUNNING)).fetchall()


async def blocked(database: Database) -> Sequence[tuple[int, str]]:
    return await eventually(lambda: running_queries(database), lambda seen: [kind for _, kind in seen] == ["Lock"])


@asynccontextmanager
async def locked(database: Database) -> AsyncIterator[None]:
    """Lock readings, so that a query takes as long as the block."""
    async with database.transaction():
        await database.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.fixture
async def watching(database_url: str) -> AsyncIterator[Database]:
    """A second connection, for observations while the first holds its lock."""
    async with await connect(database_url, "watching") as connection:
        yield connection


PATHS = ("/stats/analysis/{}", "/stats/analysis/{}?figures=p95", "/stats/analysis?device_id={}&group_by=device")


async def test_a_query_that_takes_too_long_is_cancelled(api_settings: Settings, database: Database) -> None:
    async with services.api(msgspec.structs.replace(api_settings, query_timeout=1)) as api:
        device = (await api.post("/devices", json={"name": "n"})).json()["id"]
        async with locked(database):
            answers = await asyncio.gather(*(api.get(path.format(device)) for path in PATHS))
        for answer, advice in zip(answers, (device, device, "{device_id}"), strict=True):
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/took-too-long"), answer.text
            assert f"POST /stats/analysis/{advice}/async" in answer.json()["detail"]
            assert "retry-after" not in answer.headers  # the same would be cut off again
        assert (await api.get(f"/stats/analysis/{device}")).json() == dict.fromkeys(AXES, NO_READINGS)


async def test_an_analysis_of_many_short_statements_is_cancelled_in_all(
    api_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement ends long before QUERY_TIMEOUT."""

    async def endless(connection: Connection, *_: object) -> None:
        while True:
            await connection.execute("SELECT pg_sleep(0.05)")

    async with services.api(msgspec.structs.replace(api_settings, query_timeout=1)) as api:
        device = (await api.post("/devices", json={"name": "n"})).json()["id"]
        with monkeypatch.context() as patch:
            for name in ("analyse", "analyse_each"):
                patch.setattr(immediate, name, endless)
            answers = await asyncio.gather(*(api.get(path.format(device)) for path in PATHS))
        for answer, advice in zip(answers, (device, device, "{device_id}"), strict=True):
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/took-too-long"), answer.text
            assert f"POST /stats/analysis/{advice}/async" in answer.json()["detail"]
        assert (await api.get(f"/stats/analysis/{device}")).json() == dict.fromkeys(AXES, NO_READINGS)


async def test_a_write_that_was_blocked_can_be_retried(api_settings: Settings, database: Database) -> None:
    async with services.api(msgspec.structs.replace(api_settings, query_timeout=1)) as api:
        async with database.transaction():
            await database.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
            answer = await api.post("/devices", json={"name": "n"})
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/busy")
        assert int(answer.headers["retry-after"]) > 0
        assert (await api.post("/devices", json={"name": "n"})).status_code == 201


async def test_a_query_that_an_operator_cancels_can_be_retried(
    api: httpx.AsyncClient, device: int, database: Database, watching: Database
) -> None:
    async with locked(database):
        request = asyncio.create_task(api.get(f"/stats/analysis/{device}"))
        ((process, _),) = await blocked(watching)
        await watching.execute("SELECT pg_cancel_backend(%s::int)", (process,))
        answer = await request
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/busy")
    assert int(answer.headers["retry-after"]) > 0


async def test_only_requests_have_the_timeout(database_url: str) -> None:
    async with open_pool(database_url, "test", max_size=1, statement_timeout=7) as pool, pool.connection() as limited:
        assert await shown(limited, "statement_timeout") == "7s"
    async with await connect(database_url, "test") as unlimited:
        assert await shown(unlimited, "statement_timeout") == "0"
        assert await shown(unlimited, "jit") == "off"


async def shown(connection: Database, setting: str) -> str:
    row = await (await connection.execute("SELECT current_setting(%s)", (setting,))).fetchone()
    assert row is not None
    value: str = row[0]
    return value


async def hang_up_on(api: httpx.AsyncClient, path: str, watching: Database, method: str = "GET") -> None:
    """Send a request, disconnect once the database runs its query, and wait for the end of the query."""
    _, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await blocked(watching)
    writer.close()
    await eventually(lambda: running_queries(watching), lambda seen: not seen)


async def test_a_disconnect_cancels_the_query(
    api: httpx.AsyncClient,
    device: int,
    database: Database,
    watching: Database,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Repeated so often that the pool would be empty if connections were not returned."""
    paths = [path.format(device) for path in PATHS]
    times = SLOW + 1
    async with locked(database):
        for number in range(times):
            await hang_up_on(api, paths[number % len(paths)], watching, "HEAD" if number % 4 == 3 else "GET")
    for path in paths:
        assert (await api.get(path)).status_code == 200
    await eventually(lambda: requests_ended(api, "499"), lambda count: count == times)
    assert await requests_ended(api, "500") == 0
    logged = "".join(capsys.readouterr())
    assert "error" not in logged.lower(), logged
    assert "warning" not in logged.lower(), logged


async def requests_ended(api: httpx.AsyncClient, status: str) -> float:
    """Return the number of ended requests of analyses."""
    lines = (await api.get("/metrics")).text.splitlines()
    route, label = 'route="/stats/analysis', f'status="{status}"'
    counts = [line.split()[-1] for line in lines if "http_requests_total{" in line and route in line and label in line]
    return sum(map(float, counts))


async def test_head_works_on_routes_that_watch_for_a_disconnect(api: httpx.AsyncClient, device: int) -> None:
    for path in PATHS:
        got, head = await api.get(path.format(device)), await api.head(path.format(device))
        assert (head.status_code, head.content, head.headers["content-length"]) == (
            200,
            b"",
            got.headers["content-length"],
        )
    assert (await api.head("/stats/analysis/999")).status_code == 404
    assert 'status="499"' not in (await api.get("/metrics")).text


async def test_connections_that_the_server_has_closed_are_replaced(database_url: str, database: Database) -> None:
    """A connection that the server closed is not handed out, although connections are not probed before use."""
    end = """
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'devicestat pooled'
    """
    async with open_pool(database_url, "pooled", min_size=2, max_size=2) as pool:
        await pool.wait()
        ended = await (await database.execute(end)).fetchall()
        assert ended == [(True,), (True,)]
        for _ in range(4):
            async with pool.connection() as connection:
                assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def test_a_notice_of_the_server_does_not_lose_the_connection(database_url: str) -> None:
    async with open_pool(database_url, "noticed", min_size=1, max_size=1) as pool:
        async with pool.connection() as connection:
            await connection.execute("LISTEN noticed")
            backend = connection.info.backend_pid
        async with await connect(database_url, "other") as other:
            await other.execute("NOTIFY noticed")

        async def readable() -> bool:
            return bool(await asyncio.to_thread(_has_something, connection.fileno()))

        await eventually(readable, bool)
        async with pool.connection() as again:
            assert again.info.backend_pid == backend
            assert await (await again.execute("SELECT 1")).fetchone() == (1,)


def _has_something(descriptor: int) -> object:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll(0)
