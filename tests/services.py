"""The services under test, run in the test's own loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx

from query_api.app import serve
from query_api.worker import work
from shared.settings import Settings
from tests.waiting import eventually

STOP_DEADLINE_S = 20.0


@asynccontextmanager
async def running(
    service: Callable[[Settings, asyncio.Event], Awaitable[None]], settings: Settings
) -> AsyncIterator["asyncio.Task[None]"]:
    """The service, until the end of the block; then it is stopped as a signal would, and must end cleanly."""
    stop = asyncio.Event()

    async def run() -> None:
        await service(settings, stop)

    task = asyncio.create_task(run(), name=f"{service.__name__} under test")
    try:
        yield task
    finally:
        stop.set()
        async with asyncio.timeout(STOP_DEADLINE_S):
            await task


@asynccontextmanager
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running query API, once it answers."""
    async with (
        running(serve, settings) as task,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.http_port}", timeout=30) as client,
    ):

        async def ready() -> bool:
            if task.done():
                task.result()
            try:
                return (await client.get("/health/ready")).status_code == 200
            except httpx.ConnectError:
                return False

        await eventually(ready, bool)
        yield client


@asynccontextmanager
async def worker(settings: Settings) -> AsyncIterator["asyncio.Task[None]"]:
    """A running worker."""
    async with running(work, settings) as task:
        yield task
