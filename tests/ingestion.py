"""An ingestor for a test: in this process to look into, or as a process to kill."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from ingestor.service import ingest
from shared.settings import Settings
from tests import command
from tests.services import running
from tests.waiting import eventually


async def is_ready(port: int) -> bool:
    """Whether the daemon whose telemetry is on the port says that it is ready."""
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def until_ready(port: int) -> None:
    """Waits for it."""
    await eventually(lambda: is_ready(port), lambda ready: ready)


async def until_not_ready(port: int) -> None:
    """Waits until it says that it is not."""
    await eventually(lambda: is_ready(port), lambda ready: not ready)


async def metrics(port: int) -> dict[str, float]:
    """The daemon's figures, by name and labels as in the exposition format."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


@asynccontextmanager
async def running_ingestor(settings: Settings) -> AsyncIterator[None]:
    """An ingestor in this process, ready; stopped, as by a signal, at the end."""
    async with running(ingest, settings) as task:
        ready = asyncio.create_task(until_ready(settings.ingestor_metrics_port), name="until ready")
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            ready.cancel()
            task.result()
        await ready
        yield


class IngestorProcess:
    """`devicestat ingest` as a process of its own."""

    def __init__(self, settings: Settings, **variables: str) -> None:
        self._settings = settings
        self.process = subprocess.Popen(
            command.argv("ingest"),
            env=command.environment(**_given(settings)) | variables,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def until_ready(self) -> None:
        await until_ready(self._settings.ingestor_metrics_port)

    def kill(self) -> None:
        """kill -9, if it still runs."""
        self.process.kill()
        self.process.communicate()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signals it; returns its exit code and what it logged."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        """Waits for its end; returns its exit code and what it logged."""
        _, logged = await asyncio.to_thread(self.process.communicate, timeout=60)
        return self.process.returncode, logged


def _given(settings: Settings) -> dict[str, object]:
    values = ((name, getattr(settings, name)) for name in settings.__struct_fields__)
    return {name: value for name, value in values if value is not None}
