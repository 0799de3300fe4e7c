"""`devicestat up`: runs all of Devicestat on this machine with one command.

It starts PostgreSQL and Mosquitto (unless settings name others), updates the schema, and starts the ingestor, the API,
the worker, and the simulated devices of `--demo`. It stops them in reverse order. Each is a child process of the
`supervisor`. A lock protects the data directory, and children of a killed `up` are ended first.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from deploy.devices.api_client import ApiClient, ApiDevice, base_url
from deploy.local.children import START_TIMEOUT_S, EmbeddedServer, Program, make_directory, service_start_timeout_s
from deploy.local.leftovers import ChildrenFile, locked
from deploy.local.mosquitto import HOST as MQTT_HOST
from deploy.local.mosquitto import EmbeddedMosquitto
from deploy.local.panel import panel_lines
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.supervisor import Supervisor
from deploy.simulate.devices import KEY_PREFIX
from deploy.terminal import Terminal
from shared.errors import LocalError
from shared.postgres.connections import connect
from shared.postgres.migrate import migrate
from shared.postgres.pooler import check_pooler
from shared.postgres.starting import Patience, connect_patiently
from shared.serving.closed import require_closed, require_closed_telemetry
from shared.serving.service import listen
from shared.settings import CONFIG, PREFIX, Settings, overridden, parse_mqtt_url

DEMO_DEVICES = 10
DEMO_RATE = 4.0
"""Readings per second of all devices: in a plot, the history, which is less dense, is not a series of gaps."""
DEMO_HISTORY_H = 49.0
"""Two days, and the hour by which a change of clocks moves midnight: yesterday is whole."""
_PORTS = {
    "http_port": "--http-port",
    "ingestor_metrics_port": "DEVICESTAT_INGESTOR_METRICS_PORT",
    "worker_metrics_port": "DEVICESTAT_WORKER_METRICS_PORT",
}
"""The ports of the services, and the option or variable that sets each."""
_EMBEDDED = ("database_url", "mqtt_url", "broker_data_dir")
"""Settings with which other commands find the embedded servers."""


_USUAL = Settings()
"""The defaults, with which other commands look for the services."""
_OWN_FILES = frozenset({"lock", "children.json", "children.new", "postgres", "mosquitto"})
"""Files of a data directory."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `up`."""

    data_directory: Path
    mqtt_port: int
    demo: bool
    insecure: bool
    config: Path | None


def up(settings: Settings, options: Options) -> None:
    """Run until SIGINT or SIGTERM, then stop everything. Raises DevicestatError."""
    require_closed(settings, insecure=options.insecure)
    for port in (settings.ingestor_metrics_port, settings.worker_metrics_port):
        require_closed_telemetry(settings, port, insecure=options.insecure)
    if options.demo and settings.auth == "on" and settings.api_key is None:
        raise LocalError(
            "--demo registers devices, and DEVICESTAT_AUTH is on: start without it, create an admin key with "
            "`devicestat keys create --role admin`, and set DEVICESTAT_API_KEY to it"
        )
    directory = options.data_directory.absolute()
    make_directory(directory)
    _require_ours(directory)
    terminal = Terminal()
    with locked(directory):
        children = ChildrenFile(directory)
        children.end_leftovers(terminal.say)
        settings = _with_free_ports(settings)
        _check_ports(settings, options)
        asyncio.run(_Up(settings, options, children, terminal).run())


def _require_ours(directory: Path) -> None:
    """Raise LocalError if the directory has files that are not Devicestat's."""
    others = sorted(entry.name for entry in directory.iterdir() if entry.name not in _OWN_FILES)
    owner = directory.stat().st_uid
    if others and not (directory / "lock").exists():
        raise LocalError(
            f"the data directory {directory} has other files ({', '.join(others[:3])}): choose an empty or new "
            "directory, such as a subdirectory"
        )
    if owner != os.geteuid() and os.geteuid() != 0:
        raise LocalError(f"the data directory {directory} belongs to user {owner}: choose another")


def _with_free_ports(settings: Settings) -> Settings:
    # Port 0 means a free port. It is chosen here, because `up` prints the API's and probes the others.
    with ExitStack() as held:
        free = {}
        for name in (name for name in _PORTS if getattr(settings, name) == 0):
            free[name] = held.enter_context(listen(settings.http_host, 0, _PORTS[name])).getsockname()[1]
    return msgspec.structs.replace(settings, **free)


def _check_ports(settings: Settings, options: Options) -> None:
    """Raise LocalError with the settings of all ports that are in use."""
    wanted = [(settings.http_host, getattr(settings, name), setting) for name, setting in _PORTS.items()]
    if settings.mqtt_url is None:
        wanted.append((MQTT_HOST, options.mqtt_port, "--mqtt-port"))
    faults = []
    with ExitStack() as held:  # all stay open, which finds equal ports
        for host, port, setting in wanted:
            try:
                held.enter_context(listen(host, port, setting)).listen()
            except LocalError as error:
                faults.append(str(error))
    if faults:
        raise LocalError("\n".join(dict.fromkeys(faults)))


class _Up:
    """Starts the parts in order."""

    def __init__(self, settings: Settings, options: Options, children: ChildrenFile, terminal: Terminal) -> None:
        self._settings = settings
        self._options = options
        self._children = children
        self._terminal = terminal
        self._directory = options.data_directory.absolute()

    async def run(self) -> None:
        """Start everything, and stop it at a signal or if a part fails to start."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, stop)
        async with Supervisor(self._children, self._terminal.line) as supervisor:
            running = asyncio.create_task(self._run(supervisor), name="up")
            stopping = asyncio.create_task(stop.wait(), name="stop")
            await asyncio.wait({running, stopping}, return_when="FIRST_COMPLETED")
            for task in (running, stopping):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        self._terminal.say("all stopped")

    def _on_signal(self, stop: asyncio.Event) -> None:
        again = stop.is_set()
        self._terminal.say("still stopping: one moment" if again else "stopping")
        stop.set()

    async def _run(self, supervisor: Supervisor) -> None:
        environment = await self._start_servers(supervisor)
        await supervisor.start(*self._services(environment))
        api = ApiClient(base_url(self._settings.http_host, self._settings.http_port), self._settings.api_key)
        if self._options.demo:
            await supervisor.start(_devices(environment, api))
        await self._show_panel(api, environment)
        await supervisor.watch()

    async def _show_panel(self, api: ApiClient, environment: Mapping[str, str]) -> None:
        closed = self._settings.auth == "on"
        device = await _first_device(environment[f"{PREFIX}DATABASE_URL"])
        broker = parse_mqtt_url(environment[f"{PREFIX}MQTT_URL"])
        embedded = [name for name in _EMBEDDED if getattr(self._settings, name) is None]
        elsewhere = [name for name in ("http_host", *_PORTS) if getattr(self._settings, name) != getattr(_USUAL, name)]
        names = (PREFIX + name.upper() for name in (*embedded, *elsewhere))
        exports = {name: environment[name] for name in names if name in environment}
        topic = self._settings.mqtt_topic
        lines = panel_lines(api.base, broker, topic, device, demo=self._options.demo, closed=closed, exports=exports)
        self._terminal.panel("Devicestat is ready", lines)

    async def _start_servers(self, supervisor: Supervisor) -> Mapping[str, str]:
        """Start PostgreSQL and the broker, and update the schema; return the environment of the services."""
        database_url, mqtt_url = self._settings.database_url, None
        if self._settings.mqtt_url is not None:
            mqtt_url = self._settings.mqtt_url.url
        seen: dict[str, str] = {}  # settings that apply to a broker on this host
        if database_url is None:
            postgres = EmbeddedPostgres(self._directory / "postgres")
            await self._start_server(supervisor, postgres)
            database_url = postgres.url
        await self._migrate(database_url)
        if mqtt_url is None:
            mosquitto = EmbeddedMosquitto(self._directory / "mosquitto", self._options.mqtt_port)
            await self._start_server(supervisor, mosquitto)
            mqtt_url, seen = mosquitto.url, {"broker_data_dir": str(mosquitto.data)}
        return self._environment(database_url=database_url, mqtt_url=mqtt_url, **seen)

    async def _start_server(self, supervisor: Supervisor, server: EmbeddedServer) -> None:
        await asyncio.to_thread(server.prepare)
        for path in server.opened:
            if not path.is_relative_to(self._directory):
                self._terminal.say(
                    f"gave every user search permission for {path}: PostgreSQL needs it, as it does not run as root"
                )
        await supervisor.start(server.program)
        await asyncio.to_thread(server.complete)

    async def _migrate(self, url: str) -> None:
        patience = Patience(self._settings.start_timeout)
        connection = await connect_patiently(url, "up", patience, asyncio.Event(), self._terminal.say)
        assert connection is not None, "nothing sets the event; a signal cancels this"
        async with connection:
            await check_pooler(connection, url)
            for migration in await migrate(connection):
                self._terminal.say(f"schema: applied {migration.version:04} {migration.name}")

    def _environment(self, **servers: str) -> dict[str, str]:
        environment = overridden(
            os.environ,
            **servers,
            log_format=self._settings.log_format or "console",
            **{name: str(getattr(self._settings, name)) for name in _PORTS},
        )
        if self._options.config is not None:
            environment[CONFIG] = str(self._options.config.absolute())
        return {**environment, "PYTHONUNBUFFERED": "1"}

    def _services(self, environment: Mapping[str, str]) -> Iterator[Program]:
        options = ("--insecure",) if self._options.insecure else ()
        for name, command, port in (
            ("ingestor", "ingest", self._settings.ingestor_metrics_port),
            ("api", "serve", self._settings.http_port),
            ("worker", "work", self._settings.worker_metrics_port),
        ):
            health = ApiClient(base_url(self._settings.http_host, port))
            program = _own_command(name, (command, *options), environment, health.is_ready)
            yield msgspec.structs.replace(program, start_timeout_s=self._start_timeout_s())

    def _start_timeout_s(self) -> float | None:
        """Return the start timeout of the services, which wait only for servers that `up` does not run."""
        others = self._settings.database_url is not None or self._settings.mqtt_url is not None
        return service_start_timeout_s(self._settings) if others else START_TIMEOUT_S


_FIRST_DEVICE = "SELECT id, key FROM devices ORDER BY id LIMIT 1"


async def _first_device(url: str) -> ApiDevice | None:
    """Return the device for the panel. It comes from the database because the API may refuse the key."""
    async with await connect(url, "up") as connection:
        row: tuple[int, str] | None = await (await connection.execute(_FIRST_DEVICE)).fetchone()
    return ApiDevice(*row) if row else None


def _devices(environment: Mapping[str, str], api: ApiClient) -> Program:
    """Return the program of the simulated devices. It is ready when the first device has readings."""

    def has_readings() -> bool:
        with contextlib.suppress(LocalError):
            first = next((device for device in api.devices(KEY_PREFIX) if device.key == f"{KEY_PREFIX}1"), None)
            return first is not None and api.count(first.id) > 0
        return False

    numbers = ("--devices", str(DEMO_DEVICES), "--rate", str(DEMO_RATE), "--history", str(DEMO_HISTORY_H))
    return _own_command("devices", ("simulate", *numbers), environment, has_readings)


def _own_command(
    name: str, arguments: tuple[str, ...], environment: Mapping[str, str], ready: Callable[[], bool]
) -> Program:
    # -P: a directory named `shared` in the current directory must not replace the package.
    argv = (sys.executable, "-P", "-m", "deploy.cli.main", *arguments)
    return Program(name=name, argv=argv, environment=environment, ready=ready, stops_with_parent=True)
