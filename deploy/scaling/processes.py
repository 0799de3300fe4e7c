"""`devicestat ingest --processes N`: several ingestors under one command.

The first starts alone, and the others when it is ready. It may have to end the plain subscription of an earlier single
ingestor; until then the broker delivers each message twice. An ingestor that is killed is restarted. An ingestor that
was ready and ends with an error ends the command; the log has the reason. All are stopped concurrently, because each
takes long while the database is unreachable. If this command is killed, they stop.

Each serves its telemetry on a socket that this command keeps open, also while the ingestor restarts.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from deploy.devices.api_client import ApiClient, base_url
from deploy.local.children import Program, service_start_timeout_s
from deploy.local.supervisor import Supervisor
from deploy.scaling.telemetry import TIMEOUT_S, CombinedTelemetry, Members
from ingestor.draining import retire_departed
from ingestor.service import telemetry_listener
from shared.serving.closed import telemetry_access
from shared.serving.service import listen
from shared.serving.telemetry import Health
from shared.settings import CONFIG, Settings, overridden

_HOST = "127.0.0.1"
"""Address at which the processes serve their telemetry to this command."""
_ENDED_WITH_AN_ERROR = frozenset({1})
_ALL = "processes"


async def ingest_in_processes(settings: Settings, count: int, config: Path | None, stop: asyncio.Event) -> None:
    """Run `count` ingestors until `stop` is set. Raises what `ingest` raises, and LocalError if one fails."""
    listener = telemetry_listener(settings)
    gathered = CombinedTelemetry(Health(_ALL), telemetry_access(settings))
    gathered.health.not_ready(_ALL, "sessions of departed processes are being drained")
    async with asyncio.TaskGroup() as group:
        if listener is not None:
            group.create_task(gathered.serve(listener, stop), name="telemetry")
        await retire_departed(settings, count, stop)
        if not stop.is_set():
            with _listeners(count) as listeners:
                gathered.members = _members(listeners)
                await _run(settings, list(_programs(settings, listeners, config)), gathered.health, stop)


async def _run(settings: Settings, programs: list[Program], health: Health, stop: asyncio.Event) -> None:
    async with (
        Supervisor(_Unrecorded(), _Log(settings).line, stops_at_once=True) as supervisor,
        asyncio.TaskGroup() as group,
    ):
        keeping = group.create_task(_keep(supervisor, programs, health), name="processes")
        await stop.wait()
        keeping.cancel()


async def _keep(supervisor: Supervisor, programs: list[Program], health: Health) -> None:
    health.not_ready(_ALL, "starting")
    await supervisor.start(programs[0])
    await supervisor.start(*programs[1:])
    health.ready(_ALL)
    await supervisor.watch()


_Listeners = Mapping[int, socket.socket]
"""Sockets for telemetry, by the number of the process."""


@contextmanager
def _listeners(count: int) -> Iterator[_Listeners]:
    with ExitStack() as held:
        listeners = {number: held.enter_context(listen(_HOST, 0, "")) for number in range(1, count + 1)}
        for listener in listeners.values():
            listener.listen()  # another process could listen on a port that is only bound
        yield listeners


def _members(listeners: _Listeners) -> Members:
    return {number: base_url(_HOST, listener.getsockname()[1]) for number, listener in listeners.items()}


def _programs(settings: Settings, listeners: _Listeners, config: Path | None) -> Iterator[Program]:
    environment = overridden(os.environ, log_format="json" if settings.logs_as_json else "console")
    if config is not None:
        environment[CONFIG] = str(config.absolute())
    for number, url in _members(listeners).items():
        descriptor = listeners[number].fileno()
        member = ("--processes", str(len(listeners)), "--process", str(number), "--telemetry-fd", str(descriptor))
        yield Program(
            name=f"process {number}",
            argv=(sys.executable, "-P", "-m", "deploy.cli.main", "ingest", *member),
            environment=environment,
            ready=ApiClient(url, timeout_s=TIMEOUT_S).is_ready,
            final_exit_codes=_ENDED_WITH_AN_ERROR,
            start_timeout_s=service_start_timeout_s(settings),
            pass_fds=(descriptor,),
            stops_with_parent=True,
        )


class _Unrecorded:
    """No record of the processes: the next start takes over the sessions of leftover processes."""

    def add(self, program: Program, pid: int) -> None:
        """Do nothing."""

    def remove(self, pid: int) -> None:
        """Do nothing."""


class _Log:
    """Log of the processes, with their names, on standard error."""

    def __init__(self, settings: Settings) -> None:
        self._as_json = settings.logs_as_json

    def line(self, name: str, line: str) -> None:
        """Print a line of a process."""
        print(self._json(name, line) if self._as_json else f"{name} │ {line}", file=sys.stderr, flush=True)

    def _json(self, name: str, line: str) -> str:
        try:
            entry = msgspec.json.decode(line, type=dict[str, object])
        except (msgspec.DecodeError, msgspec.ValidationError):
            entry = {"event": line}
        return msgspec.json.encode({"process": name, **entry}).decode()
