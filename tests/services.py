"""Services under test, in the event loop of the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import httpx
from psycopg import sql

from ingestor.replay import MessageDecoder
from query_api.serve import app as app_of_api
from query_api.serve import tuning as tuning_of_api
from query_api.worker.service import work
from query_api.worker.tuning import DEFAULT, Tuning
from shared.postgres.connections import connect
from shared.settings import Settings
from tests.disclosure import gather_answer
from tests.roles import as_role
from tests.waiting import HANG_S, eventually

serve = partial(app_of_api.serve, decoder_of=MessageDecoder)
"""Run the API as `devicestat serve` does."""
_HOOKS = {"response": [gather_answer]}


@asynccontextmanager
async def running(
    service: Callable[[Settings, asyncio.Event], Awaitable[None]], settings: Settings
) -> AsyncIterator["asyncio.Task[None]"]:
    """Run the service for the block, then stop it as by a signal; it must end cleanly."""
    stop = asyncio.Event()

    async def run() -> None:
        await service(settings, stop)

    task = asyncio.create_task(run(), name="service under test")
    try:
        yield task
    finally:
        stop.set()
        async with asyncio.timeout(HANG_S):
            await task


@asynccontextmanager
async def api(
    settings: Settings, tuning: tuning_of_api.Tuning = tuning_of_api.DEFAULT
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running query API, once it answers."""
    async with (
        running(partial(serve, tuning=tuning), as_role(settings, "api")) as task,
        client_of(settings.http_port) as client,
    ):

        async def ready() -> bool:
            if task.done():
                task.result()
            return await (is_live if settings.auth == "on" else is_ready)(settings.http_port)

        await eventually(ready, bool)
        yield client


def client_of(port: int) -> httpx.AsyncClient:
    """Return a client of the service on the port. It loads no certificates, which would take longer than most tests."""
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=HANG_S, event_hooks=_HOOKS,
        verify=False,  # noqa: S501  # it speaks plain HTTP
    )  # fmt: skip


async def is_ready(port: int) -> bool:
    """Return whether the service on the port is ready."""
    return await _answers(port, "/health/ready")


async def is_live(port: int) -> bool:
    """Return whether a service on the port is live."""
    return await _answers(port, "/health/live")


async def _answers(port: int, path: str) -> bool:
    async with client_of(port) as client:
        try:
            return (await client.get(path)).status_code == 200
        except httpx.TransportError:
            return False


@asynccontextmanager
async def worker(settings: Settings, tuning: Tuning = DEFAULT) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a worker for the block."""
    async with asyncio.TaskGroup() as tasks:  # an error of the worker fails the block
        stop = asyncio.Event()
        task = tasks.create_task(work(as_role(settings, "worker"), stop, tuning), name="worker under test")
        try:
            yield task
        finally:
            stop.set()
            async with asyncio.timeout(HANG_S):
                await asyncio.wait({task})


@asynccontextmanager
async def database_away(server: str, url: str) -> AsyncIterator[None]:
    """Simulate a server that is down: end the connections to the database, and refuse new ones."""
    name = sql.Identifier(urlsplit(url).path[1:])
    allow = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
    async with await connect(server, "outage") as connection:
        await connection.execute(allow.format(name, sql.SQL("false")))
        await connection.execute(_CUT_OFF, (urlsplit(url).path[1:],))
        try:
            yield
        finally:
            await connection.execute(allow.format(name, sql.SQL("true")))


_CUT_OFF = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
