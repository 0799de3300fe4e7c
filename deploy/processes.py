"""`devicestat ingest --processes N`: several ingestors under one command.

The first starts alone, and the others once it is ready: it may have to give up the subscription of an
ingestor that worked alone, and until then the broker deals each message out twice. One that is killed is
started again; one that ends with an error ends the command, with its reason in the log.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from deploy.api_client import ApiClient, base_url
from deploy.children import Program
from deploy.processes_telemetry import Members, serve_gathered
from deploy.supervisor import Supervisor
from ingestor.leaving import retire_departed
from shared.service import listen
from shared.settings import CONFIG, PREFIX, Settings

_HOST = "127.0.0.1"
"""Where the processes serve their own telemetry, for the command that gathers it."""
_ENDED_WITH_AN_ERROR = frozenset({1})


async def ingest_in_processes(settings: Settings, count: int, config: Path | None, stop: asyncio.Event) -> None:
    """Runs so many ingestors until `stop` is set. Raises what `ingest` raises, and LocalError where one ends."""
    port = settings.ingestor_metrics_port
    listener = listen(settings.http_host, port, f"{PREFIX}INGESTOR_METRICS_PORT") if port else None
    await retire_departed(settings, count, stop)
    if stop.is_set():
        return
    members = dict(enumerate((base_url(_HOST, free) for free in _free_ports(count)), 1))
    programs = list(_programs(settings, members, config))
    async with Supervisor(_Nobody(), _Log(settings).line) as supervisor, asyncio.TaskGroup() as group:
        if listener is not None:
            group.create_task(serve_gathered(members, listener, stop), name="telemetry")
        keeping = group.create_task(_keep(supervisor, programs), name="processes")
        await stop.wait()
        keeping.cancel()


async def _keep(supervisor: Supervisor, programs: list[Program]) -> None:
    await supervisor.start(programs[0])
    await supervisor.start(*programs[1:])
    await supervisor.watch()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(listen(_HOST, 0, "")) for _ in range(count)]
        return [socket.getsockname()[1] for socket in sockets]


def _programs(settings: Settings, members: Members, config: Path | None) -> Iterator[Program]:
    for number, url in members.items():
        own = {"HTTP_HOST": _HOST, "INGESTOR_METRICS_PORT": url.rpartition(":")[2]}
        own["LOG_FORMAT"] = "json" if settings.logs_as_json else "console"
        environment = {**os.environ, **{f"{PREFIX}{name}": value for name, value in own.items()}}
        if config is not None:
            environment[CONFIG] = str(config.absolute())
        member = ("--processes", str(len(members)), "--process", str(number))
        yield Program(
            name=f"process {number}",
            argv=(sys.executable, "-P", "-m", "deploy.cli", "ingest", *member),
            environment=environment,
            ready=ApiClient(url).is_ready,
            final_exit_codes=_ENDED_WITH_AN_ERROR,
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
