"""Common parts of the long-running commands: event loop, signals, HTTP port."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import uvicorn
import uvloop
from prometheus_client import CollectorRegistry

from shared.errors import DevicestatError, LocalError
from shared.serving.asgi import ASGIApp
from shared.serving.lifeline import stop_with_parent
from shared.serving.limits import LIMITS, ConnectionLimits, LimitedProtocol, allow_many_files, watch
from shared.serving.own_hosts import HostRules, OwnHosts
from shared.serving.security_headers import ALWAYS, SecurityHeaders
from shared.serving.telemetry import Health, Readiness, TelemetryAccess
from shared.serving.telemetry_app import TelemetryApp

Main = Callable[[asyncio.Event], Awaitable[None]]
"""A service: it runs until the event is set, then finishes its current work and returns."""
AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
IDLE_S = 5
"""Time that an idle connection stays open."""
PROXY_IDLE_S = 150
"""For a trusted proxy: it must close first, or a request could meet our close. Caddy closes after 120 s."""


def run(main: Main) -> None:
    """Run a service on uvloop until it returns. SIGTERM, SIGINT and the end of a supervisor set its event.

    Raises what the service raises; of a failed task group, the first DevicestatError.
    """

    async def with_signals() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        stop_with_parent(stop, os.environ)
        await main(stop)

    allow_many_files()
    try:
        uvloop.run(with_signals())
    except BaseExceptionGroup as group:
        raise _first_of_ours(group) from group


def _first_of_ours(group: BaseExceptionGroup[BaseException]) -> BaseException:
    ours = group.subgroup(DevicestatError)
    error: BaseException = ours or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def look_up(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the addresses of HTTP_HOST by getaddrinfo. Raises LocalError."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # ValueError: a label is too long
        why = getattr(error, "strerror", None) or error
        raise LocalError(f"DEVICESTAT_HTTP_HOST is {host!r}, which is not an address of this host: {why}") from error


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Return a listening socket. Raises LocalError with the setting of the port."""
    family, kind, protocol, _, address = look_up(host, port)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise LocalError(
            f"cannot listen on port {port} of {host} ({error.strerror}): stop the program that uses it, "
            f"or set {setting} to another"
        ) from error
    return listener


async def serve_http(
    app: ASGIApp,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    lifespan: Literal["on", "off"] = "on",
    hosts: OwnHosts | None = None,
    trusted_proxies: Sequence[str] = (),
    limits: ConnectionLimits = LIMITS,
) -> None:
    """Serve the application on the socket until the event is set, then finish the current requests.

    `hosts`: accepted hosts of a server without authentication. `trusted_proxies`: addresses and networks of proxies
    whose X-Forwarded-For and X-Forwarded-Proto are trusted.
    """
    protocol: Any = partial(LimitedProtocol, limits=limits)
    config = uvicorn.Config(
        SecurityHeaders(HostRules(app, hosts)), loop="none", http=protocol, ws="none", lifespan=lifespan,
        log_config=None, access_log=False, server_header=False, headers=ALWAYS,
        proxy_headers=bool(trusted_proxies), forwarded_allow_ips=list(trusted_proxies),
        timeout_keep_alive=PROXY_IDLE_S if trusted_proxies else IDLE_S,
        timeout_graceful_shutdown=10,
    )  # fmt: skip
    server = _Server(config)

    async def stop_server() -> None:
        await stop.wait()
        server.should_exit = True

    async with asyncio.TaskGroup() as tasks:
        others = [
            tasks.create_task(stop_server(), name="http stop"),
            tasks.create_task(watch(server.server_state.connections, limits.look_every_s), name="http connections"),
        ]
        await server.serve(sockets=[listener])
        for other in others:
            other.cancel()


async def serve_telemetry(
    health: Health,
    registry: CollectorRegistry,
    listener: socket.socket,
    stop: asyncio.Event,
    access: TelemetryAccess,
) -> None:
    """Serve health and metrics of a daemon on its own port."""

    async def readiness() -> Readiness:
        return health.readiness()

    async def metrics() -> CollectorRegistry:
        return registry

    app = TelemetryApp(readiness, metrics, access)
    await serve_http(app, listener, stop, lifespan="off", hosts=access.hosts)
