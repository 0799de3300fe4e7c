"""The `devicestat` command: it parses the command line, calls, and maps errors to exit codes.

A DevicestatError becomes its message on standard error, a line for each fault, and exit code 1. What a
command needs is imported when it runs, so that `devicestat --help` is there at once.
"""

import asyncio
import errno
import io
import math
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli.broker import broker
from deploy.cli.command import ask_database, read_settings
from deploy.cli.dead_letters import dead_letters
from deploy.cli.devices import devices as devices_group
from deploy.cli.keys import keys
from deploy.cli.systemd import systemd
from shared.errors import DevicestatError, LocalError, SettingsError

if TYPE_CHECKING:
    from shared.settings import Settings

_Service = Callable[["Settings", asyncio.Event], Awaitable[None]]
_PORT = click.IntRange(0, 65_535)
_PROCESSES = click.IntRange(1, 64)
_LONGEST_HISTORY_H = 100_000
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
_INSECURE = click.option(
    "--insecure", is_flag=True, help="Start though others may reach the API and DEVICESTAT_AUTH is off."
)
_INSECURE_METRICS = click.option(
    "--insecure",
    is_flag=True,
    help="Start though others may reach the metrics and DEVICESTAT_METRICS_TOKEN is not set.",
)


class _Number(click.FloatRange):
    """A number in a range; click finds nan in every one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


class _Main(click.Group):
    """A group that shows a DevicestatError, and output that cannot be written, as one line for its reader to mend."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command, in any encoding of the output: a character that it lacks is shown as an escape."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            try:
                return super().main(*args, **options)
            finally:
                sys.stdout.flush()
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
            click.secho(f"devicestat: the output cannot be written: {error.strerror}", fg="red", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DevicestatError as error:
            for line in str(error).splitlines():
                click.secho(f"devicestat: {line}", fg="red", err=True)
            ctx.exit(1)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="devicestat", message="%(prog)s %(version)s")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A TOML file with settings. [default: DEVICESTAT_CONFIG]",
)
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Device telemetry on MQTT and PostgreSQL: readings stored, with exact figures over any period.

    Settings come from DEVICESTAT_* environment variables, or from the file given by --config.
    """
    ctx.obj = config


# Everything on one machine


@main.command()
@click.option("--demo", is_flag=True, help="Add simulated devices, with some hours of history.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(".devicestat"),
    show_default=True,
    metavar="DIR",
    help="Where the data are, and survive a restart.",
)
@click.option("--http-port", type=_PORT, metavar="N", help="The API's port. [default: DEVICESTAT_HTTP_PORT, else 8000]")
@click.option(
    "--mqtt-port", type=click.IntRange(1, 65_535), default=1883, show_default=True, metavar="N",
    help="The embedded broker's port.",
)  # fmt: skip
@_INSECURE
@click.pass_context
def up(
    ctx: click.Context, *, demo: bool, data_dir: Path, http_port: int | None, mqtt_port: int, insecure: bool
) -> None:
    """Run all of Devicestat on this machine.

    PostgreSQL and Mosquitto are embedded, unless DEVICESTAT_DATABASE_URL and DEVICESTAT_MQTT_URL name others.
    Ctrl-C stops everything.
    """
    import msgspec

    settings = read_settings(ctx)
    if http_port is not None:
        settings = msgspec.structs.replace(settings, http_port=http_port)
    try:
        from deploy.local import up as local
    except ModuleNotFoundError as error:
        raise LocalError(f"`devicestat up` needs {error.name}: pip install 'devicestat[local]'") from error
    config = ctx.find_root().obj
    options = local.Options(data_directory=data_dir, mqtt_port=mqtt_port, demo=demo, insecure=insecure, config=config)
    local.up(settings, options)


# The services


@main.command()
@click.option("--processes", type=_PROCESSES, default=1, show_default=True, metavar="N", help="Share the work among N.")
@click.option("--process", type=_PROCESSES, metavar="K", help="Run the K-th of the N alone, as on a host of its own.")
@click.option("--telemetry-fd", type=int, hidden=True)  # of the command that runs all of them
@_INSECURE_METRICS
@click.pass_context
def ingest(
    ctx: click.Context, *, processes: int, process: int | None, telemetry_fd: int | None, insecure: bool
) -> None:
    """Run the ingestor.

    Several processes share one subscription, each with a client id of its own.
    """
    if process is not None and process > processes:
        what = f"{process} of {processes}: it takes a number from 1 to {processes}"
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


@main.command()
@_INSECURE
@click.pass_context
def serve(ctx: click.Context, *, insecure: bool) -> None:
    """Run the query API."""
    settings = read_settings(ctx, "database_url")
    from query_api.app import serve

    _run(partial(serve, insecure=insecure), settings)


@main.command()
@_INSECURE_METRICS
@click.pass_context
def work(ctx: click.Context, *, insecure: bool) -> None:
    """Run the worker of queued analyses."""
    settings = read_settings(ctx, "database_url")
    from query_api.worker.service import work

    _run_closed(work, settings, settings.worker_metrics_port, insecure=insecure)


def _run_closed(service: _Service, settings: "Settings", port: int, *, insecure: bool) -> None:
    """Run a service whose metrics are on the port. Raises LocalError where others could read them."""
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


# What one does now and then


@main.command()
@click.option("--roles", is_flag=True, help="Make roles for the services, each with what it needs and no more.")
@click.option(
    "--passwords",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="With --roles: set their passwords, from the files ingestor, api and worker there.",
)
@click.pass_context
def migrate(ctx: click.Context, *, roles: bool, passwords: Path | None) -> None:
    """Bring the database's schema up to date."""
    if passwords is not None and not roles:
        raise click.UsageError("--passwords goes with --roles", ctx)
    settings = read_settings(ctx, "database_url")
    from shared.postgres.migrate import migrate, migrations
    from shared.postgres.roles import SERVICES, read_passwords, set_up

    given = None if passwords is None else read_passwords(passwords)
    applied = ask_database(settings, migrate, patient=True)
    for migration in applied:
        click.echo(f"applied {migration.version:04} {migration.name}")
    click.echo(f"the schema is {'now' if applied else 'already'} at version {migrations()[-1].version}")
    if roles:
        ask_database(settings, partial(set_up, passwords=given))
        click.echo(f"the roles {', '.join(SERVICES.values())} have what they need, and nothing else")


@main.command()
@click.option(
    "--devices", type=click.IntRange(1, 100_000), default=10, show_default=True, metavar="N", help="How many."
)
@click.option(
    "--rate", type=_Number(0.001, 1_000_000), default=10.0, show_default=True, metavar="R",
    help="Readings a second, of all devices together.",
)  # fmt: skip
@click.option(
    "--count", type=click.IntRange(0), metavar="C", help="Stop after so many readings, the history's among them."
)
@click.option(
    "--history", type=_Number(0, _LONGEST_HISTORY_H), default=0.0, show_default=True, metavar="HOURS",
    help="Publish first what the devices would have measured in the hours before.",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed makes other signals.")
@click.option("--api", metavar="URL", help="Where to register them. [default: from DEVICESTAT_HTTP_HOST and _PORT]")
@click.pass_context
def simulate(
    ctx: click.Context,
    *,
    devices: int,
    rate: float,
    count: int | None,
    history: float,
    seed: int,
    api: str | None,
) -> None:
    """Publish plausible readings of simulated devices."""
    settings = read_settings(ctx, "mqtt_url")
    from deploy.cli.terminal import Terminal
    from deploy.devices.api_client import base_url
    from deploy.simulate import devices as simulate

    plan = simulate.Plan(devices=devices, rate=rate, count=count, history_h=history, seed=seed)
    simulate.simulate(settings, plan, api or base_url(settings.http_host, settings.http_port), Terminal())


@main.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Say what is wrong with settings, database or broker."""
    from deploy.doctor import State, examine, report

    try:
        settings = read_settings(ctx, "database_url", "mqtt_url")
    except SettingsError as error:
        click.echo(report("settings", State.WRONG, error.faults))
        ctx.exit(1)
    findings = asyncio.run(examine(settings))
    click.echo(report("settings", State.OK, ["all are valid"]))
    for finding in findings:
        click.echo(report(finding.what, finding.state, [finding.text]))
    if any(finding.state is State.WRONG for finding in findings):
        ctx.exit(1)


main.add_command(broker)
main.add_command(dead_letters)
main.add_command(devices_group)
main.add_command(keys)
main.add_command(systemd)

if __name__ == "__main__":
    main()
