"""Ingestors for tests: in this process, or as a process that can be killed."""

import asyncio
import os
import signal
import subprocess
import tempfile
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from ingestor.delivery.journal import Journal
from ingestor.devices import Devices
from ingestor.metrics import IngestMetrics
from ingestor.service import Ingestor, telemetry_listener
from ingestor.session.processes import ALONE
from ingestor.session.session import Session
from ingestor.storing.database_connection import DatabaseConnection
from ingestor.storing.sampling import Sampler
from ingestor.storing.writer import Writer
from shared.readings.announce import Interest
from shared.serving.telemetry import Health
from shared.settings import Settings, parse_topic_filter
from tests import command
from tests.disclosure import gather
from tests.roles import as_role
from tests.services import client_of, is_ready, running
from tests.waiting import HANG_S, eventually


async def health(port: int) -> dict[str, Any]:
    """Return the body of /health/ready."""
    async with client_of(port) as client:
        report: dict[str, Any] = (await client.get("/health/ready")).json()
    return report


async def until_ready(port: int) -> None:
    """Wait until the service is ready."""
    await eventually(lambda: is_ready(port), lambda ready: ready)


async def until_not_ready(port: int) -> None:
    """Wait until the service is not ready."""
    await eventually(lambda: is_ready(port), lambda ready: not ready)


async def metrics(port: int) -> dict[str, float]:
    """Return the metrics, by name and labels as in the exposition format."""
    async with client_of(port) as client:
        text = (await client.get("/metrics")).text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


@asynccontextmanager
async def running_ingestor(
    settings: Settings, session: type[Session] | partial[Session] = Session, interest: Interest | None = None
) -> AsyncIterator[None]:
    """Run an ingestor in this process. The block begins when it is ready. `session`: constructs its session."""

    async def ingest(settings: Settings, stop: asyncio.Event) -> None:
        parts = Ingestor(settings, session, ALONE.clock(), Interest() if interest is None else interest)
        await parts.run(stop, telemetry_listener(settings))

    async with running(ingest, as_role(settings, "ingestor")) as task:
        ready = asyncio.create_task(until_ready(settings.ingestor_metrics_port), name="until ready")
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            ready.cancel()
            task.result()
        await ready
        yield


def writer_of(journal: Journal, devices: Devices) -> Writer:
    """Return a writer; the test passes a connection to its `store`."""
    unused = DatabaseConnection("", Health())
    topic_filter = parse_topic_filter("devices/+/stats")
    return Writer(unused, journal, devices, Interest(), Sampler(60, "+"), IngestMetrics(), topic_filter)


class IngestorProcess:
    """`devicestat ingest` as a process. It logs to a file, because a full pipe would block it."""

    def __init__(self, settings: Settings, *arguments: object, **variables: str) -> None:
        self.port = settings.ingestor_metrics_port
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed at the process's end, or with this
        weakref.finalize(self, self._log.close)
        self._logged = ""
        self.process = subprocess.Popen(
            command.argv("ingest", *arguments),
            env=command.environment(**_given(as_role(settings, "ingestor"))) | variables,
            stderr=self._log,
        )

    @property
    def logged(self) -> str:
        """Log of the process so far."""
        if not self._log.closed:
            size = os.fstat(self._log.fileno()).st_size
            self._logged = os.pread(
                self._log.fileno(), size, 0
            ).decode()  # pread leaves the offset, at which the process writes
        return self._logged

    async def until_ready(self) -> None:
        """Wait until the ingestor is ready. Raises AssertionError with its log if it ends before."""

        async def ready() -> bool:
            assert self.process.poll() is None, self.logged
            return await is_ready(self.port)

        await eventually(ready, bool)

    async def why_not_ready(self) -> dict[str, str]:
        """Return the fault of each part that is not ready."""
        parts = (await health(self.port))["parts"]
        return {part: fault for part, fault in parts.items() if fault != "ok"}

    def kill(self) -> None:
        """Send SIGKILL if it still runs."""
        self.process.kill()
        self._wait()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send the signal; return exit code and log."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        """Wait for the end; return exit code and log."""
        code = await asyncio.to_thread(self._wait)
        return code, self._logged

    def _wait(self) -> int:
        try:
            code = self.process.wait(timeout=HANG_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs after {HANG_S:g} s:\n{self.logged}") from None
        gather("the log of an ingestor", self.logged)
        self._log.close()
        return code


def _given(settings: Settings) -> dict[str, object]:
    values = ((name, getattr(settings, name)) for name in settings.__struct_fields__)
    return {name: value for name, value in values if value is not None}
