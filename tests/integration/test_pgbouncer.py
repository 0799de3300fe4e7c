"""With PgBouncer in session mode everything works. In other modes nothing starts, and the error has the reason."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import psycopg
import pytest

from shared.errors import DatabaseError
from shared.postgres.connections import connect
from shared.postgres.pooler import check_pooler, is_pooled
from shared.settings import Settings
from tests import services
from tests.command import arun
from tests.conftest import Broker
from tests.ingestion import running_ingestor
from tests.integration.test_hostile_settings import for_the_database, story_is_right
from tests.pgbouncer import pgbouncer, until_it_answers

Make = Callable[..., Settings]
OTHER_MODES = pytest.mark.parametrize("mode", ["transaction", "statement"])
WORDS = "set pool_mode = session"


@pytest.fixture
async def session_mode(database_url: str) -> AsyncIterator[str]:
    """URL of the test's database through a PgBouncer in session mode."""
    with pgbouncer(database_url, "session") as url:
        await until_it_answers(url)
        yield url


async def test_the_story_is_right_in_session_mode(
    make_settings: Make, broker: Broker, database_url: str, session_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with settings of the database that PgBouncer passes from client to client."""
    for_the_database(database_url, monkeypatch)
    settings = make_settings(database_url=session_mode)
    async with AsyncExitStack() as running:
        await running.enter_async_context(running_ingestor(settings))
        api = await running.enter_async_context(services.api(settings))
        await running.enter_async_context(services.worker(settings))
        await story_is_right(api, broker)


async def test_session_mode_is_distinguished_under_load(session_mode: str) -> None:
    """Other clients connect and disconnect, and PgBouncer reuses their server connections."""
    stop = asyncio.Event()

    async def come_and_go() -> None:
        while not stop.is_set():
            async with await psycopg.AsyncConnection.connect(session_mode) as connection:
                await connection.execute("SELECT 1")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(come_and_go())
        for _ in range(10):
            async with await connect(session_mode, "test") as connection:
                assert await is_pooled(connection)
                await check_pooler(connection, session_mode)
        stop.set()


@OTHER_MODES
@pytest.mark.parametrize("pool", [{}, {"round_robin": 1}, {"size": 1}], ids=str)
async def test_another_mode_is_found_out(database_url: str, mode: str, pool: dict[str, int]) -> None:
    with pgbouncer(database_url, mode, **pool) as url:
        await until_it_answers(url)
        async with await connect(url, "test") as connection:
            with pytest.raises(DatabaseError, match=WORDS):
                await check_pooler(connection, url)


async def test_another_mode_is_found_out_under_load(database_url: str) -> None:
    stop = asyncio.Event()
    with pgbouncer(database_url, "transaction", size=5) as url:
        await until_it_answers(url)

        async def work() -> None:
            async with await connect(url, "test") as connection:
                while not stop.is_set():
                    await connection.execute("SELECT pg_sleep(0.001)", prepare=False)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(work())
            for _ in range(5):
                async with await connect(url, "test") as connection:
                    with pytest.raises(DatabaseError, match=WORDS):
                        await check_pooler(connection, url)
            stop.set()


async def test_a_direct_connection_is_no_pooler_s(database_url: str) -> None:
    async with await connect(database_url, "test") as connection:
        assert not await is_pooled(connection)


@OTHER_MODES
async def test_no_service_starts_and_the_doctor_says_why(database_url: str, broker: Broker, mode: str) -> None:
    with pgbouncer(database_url, mode) as url:
        await until_it_answers(url)
        settings = Settings(database_url=url, mqtt_url=broker.url)
        given = {name: getattr(settings, name) for name in ("database_url", "mqtt_url")}
        ports = dict.fromkeys(("http_port", "ingestor_metrics_port", "worker_metrics_port"), 0)
        commands = ("ingest", "serve", "work", "migrate", "doctor")
        results = await asyncio.gather(*(arun(command, **given, **ports) for command in commands))
        said = {
            one: (result.returncode, WORDS in result.stdout + result.stderr)
            for one, result in zip(commands, results, strict=True)
        }
        assert said == dict.fromkeys(commands, (1, True)), results
