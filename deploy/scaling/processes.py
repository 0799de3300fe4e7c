"""`devicestat ingest --processes N`: several ingestors under one command.

The first starts alone, and the others once it is ready: it may have to give up the subscription of an
ingestor that worked alone, and until then the broker deals each message out twice. One that is killed is
started again; one that worked and ends with an error ends the command, with its reason in the log. All are
stopped at once: with the database away, each takes its time. If this command is killed, they stop by themselves.

Each serves its telemetry on a port that this command keeps open for it, over all of its runs.
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
"""Where the processes serve their own telemetry, for the command that gathers it."""
_ENDED_WITH_AN_ERROR = frozenset({1})
_ALL = "processes"


async def ingest_in_processes(settings: Settings, count: int, config: Path | None, stop: asyncio.Event) -> None:
    """Runs so many ingestors until `stop` is set. Raises what `ingest` raises, and LocalError where one ends."""
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
        Supervisor(_Nobody(), _Log(settings).line, stops_at_once=True) as supervisor,
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
"""The processes' numbers, and where each serves its telemetry."""


@contextmanager
def _listeners(count: int) -> Iterator[_Listeners]:
    with ExitStack() as held:
        listeners = {number: held.enter_context(listen(_HOST, 0, "")) for number in range(1, count + 1)}
        for listener in listeners.values():
            listener.listen()  # a port that is only bound can be had by others
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


class _Nobody:
    """Nobody need be told of the processes: the next start takes the sessions from any that are left over."""

    def add(self, program: Program, pid: int) -> None:
        """Nothing to do."""

    def remove(self, pid: int) -> None:
        """Nothing to do."""


class _Log:
    """What the processes log, with the process it comes from, on standard error."""

    def __init__(self, settings: Settings) -> None:
        self._as_json = settings.logs_as_json

    def line(self, name: str, line: str) -> None:
        """A line of one of them."""
        print(self._json(name, line) if self._as_json else f"{name} │ {line}", file=sys.stderr, flush=True)

    def _json(self, name: str, line: str) -> str:
        try:
            entry = msgspec.json.decode(line, type=dict[str, object])
        except (msgspec.DecodeError, msgspec.ValidationError):
            entry = {"event": line}
        return msgspec.json.encode({"process": name, **entry}).decode()
