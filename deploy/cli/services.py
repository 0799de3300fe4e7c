"""The commands that run a service: `devicestat ingest`, `serve` and `work`."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from deploy.command import read_settings

if TYPE_CHECKING:
    from shared.settings import Settings

_Service = Callable[["Settings", asyncio.Event], Awaitable[None]]
_PROCESSES = click.IntRange(1, 64)
INSECURE = click.option(
    "--insecure", is_flag=True, help="Start even if the API is reachable from the network and DEVICESTAT_AUTH is off."
)
_INSECURE_METRICS = click.option(
    "--insecure",
    is_flag=True,
    help="Start even if the metrics are reachable from the network and DEVICESTAT_METRICS_TOKEN is not set.",
)


@click.command()
@click.option(
    "--processes",
    type=_PROCESSES,
    default=1,
    show_default=True,
    metavar="N",
    help="Number of processes that share the subscription.",
)
@click.option("--process", type=_PROCESSES, metavar="K", help="Run only process K of N, on its own host.")
@click.option("--telemetry-fd", type=int, hidden=True)  # from the command that runs all processes
@_INSECURE_METRICS
@click.pass_context
def ingest(
    ctx: click.Context, *, processes: int, process: int | None, telemetry_fd: int | None, insecure: bool
) -> None:
    """Run the ingestor.

    Several processes share one subscription. Each has its own client id.
    """
    if process is not None and process > processes:
        what = f"{process} of {processes}: expected a number from 1 to {processes}"
        raise click.BadParameter(what, ctx, None, "--process")
    settings = read_settings(ctx, "database_url", "mqtt_url")
    port = settings.ingestor_metrics_port if telemetry_fd is None else 0
    if process is None and processes > 1:
        from deploy.scaling.processes import ingest_in_processes

        config = ctx.find_root().obj
        _run_closed(lambda s, stop: ingest_in_processes(s, processes, config, stop), settings, port, insecure=insecure)
    else:
        from ingestor.draining import ingest_as

        listener = None if telemetry_fd is None else socket.socket(fileno=telemetry_fd)
        number = process or 1
        _run_closed(lambda s, stop: ingest_as(s, number, processes, stop, listener), settings, port, insecure=insecure)


@click.command()
@INSECURE
@click.pass_context
def serve(ctx: click.Context, *, insecure: bool) -> None:
    """Run the API."""
    settings = read_settings(ctx, "database_url")
    from ingestor.replay import MessageDecoder
    from query_api.serve.app import serve

    _run(partial(serve, decoder_of=MessageDecoder, insecure=insecure), settings)


@click.command()
@_INSECURE_METRICS
@click.pass_context
def work(ctx: click.Context, *, insecure: bool) -> None:
    """Run the worker."""
    settings = read_settings(ctx, "database_url")
    from query_api.worker.service import work

    _run_closed(work, settings, settings.worker_metrics_port, insecure=insecure)


def _run_closed(service: _Service, settings: "Settings", port: int, *, insecure: bool) -> None:
    """Run a service with metrics on the port. Raises LocalError if the network could read them."""
    from shared.serving.closed import require_closed_telemetry

    def closed(settings: "Settings", stop: asyncio.Event) -> Awaitable[None]:
        require_closed_telemetry(settings, port, insecure=insecure)
        return service(settings, stop)

    _run(closed, settings)


def _run(service: _Service, settings: "Settings") -> None:
    from shared.serving.service import run
    from shared.serving.telemetry import configure_logging

    configure_logging(settings)
    run(partial(service, settings))
