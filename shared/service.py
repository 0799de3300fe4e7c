"""What every long-running command does alike: the event loop, the signals, the HTTP port."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal

import uvicorn
import uvloop
from litestar import Litestar
from litestar.types import ASGIApp
from prometheus_client import CollectorRegistry

from shared.errors import DevicestatError, LocalError
from shared.telemetry import Health, telemetry_routes

Main = Callable[[asyncio.Event], Awaitable[None]]
"""A service: it runs until the event is set, then finishes what it has in hand and returns."""


def run(main: Main) -> None:
    """Runs a service on uvloop until it returns. SIGTERM and SIGINT set its event.

    Raises what the service raises; of a task group that failed, the first error that a person can mend.
    """

    async def with_signals() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await main(stop)

    try:
        uvloop.run(with_signals())
    except BaseExceptionGroup as group:
        raise _first_mendable(group) from group


def _first_mendable(group: BaseExceptionGroup[BaseException]) -> BaseException:
    ours = group.subgroup(DevicestatError)
    error: BaseException = ours or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Server(uvicorn.Server):
    """uvicorn, without its own hold on the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket. Raises LocalError, naming the setting that chose the port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise LocalError(f"DEVICESTAT_HTTP_HOST is {host!r}, which is no address here: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise LocalError(
            f"port {port} on {host} cannot be had ({error.strerror}): stop what uses it, or set {setting} to another"
        ) from error
    return listener


async def serve_http(
    app: ASGIApp, listener: socket.socket, stop: asyncio.Event, *, lifespan: Literal["on", "off"] = "on"
) -> None:
    """Serves the application on the socket until the event is set, then finishes the requests in hand."""
    config = uvicorn.Config(
        app, loop="none", http="httptools", lifespan=lifespan, log_config=None, access_log=False,
        server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=10,
    )  # fmt: skip
    server = _Server(config)

    async def stop_server() -> None:
        await stop.wait()
        server.should_exit = True

    waiting = asyncio.create_task(stop_server(), name="http stop")
    try:
        await server.serve(sockets=[listener])
    finally:
        waiting.cancel()


async def serve_telemetry(
    health: Health, registry: CollectorRegistry, listener: socket.socket, stop: asyncio.Event
) -> None:
    """Serves health and metrics of a daemon on its own port."""
    app = Litestar(telemetry_routes(health, registry), openapi_config=None, logging_config=None)
    await serve_http(app, listener, stop, lifespan="off")
