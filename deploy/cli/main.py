"""The `devicestat` command: it parses the command line, runs the command, and maps errors to exit codes.

A DevicestatError becomes its message on standard error, one line for each fault, and exit code 1. Commands import
their modules when they run, so that `devicestat --help` is fast.
"""

import asyncio
import errno
import io
import math
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli.blocks import blocks
from deploy.cli.broker import broker
from deploy.cli.dead_letters import dead_letters
from deploy.cli.devices import devices as devices_group
from deploy.cli.keys import keys
from deploy.cli.services import INSECURE, ingest, serve, work
from deploy.cli.systemd import systemd
from deploy.command import ask_database, read_settings
from shared.errors import DevicestatError, LocalError, SettingsError

if TYPE_CHECKING:
    from shared.settings import Settings

_PORT = click.IntRange(0, 65_535)
_LONGEST_HISTORY_H = 100_000
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


class _Number(click.FloatRange):
    """A number in a range; click's own type accepts nan."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class _Main(click.Group):
    """A group that prints a DevicestatError, or an error of its own output, as one line."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command. A character that the output encoding lacks is escaped."""
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
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it again at its end
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


@main.command()
@click.option("--demo", is_flag=True, help="Add simulated devices with two days of history.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(".devicestat"),
    show_default=True,
    metavar="DIR",
    help="Data directory. It is kept when `up` stops.",
)
@click.option(
    "--http-port", type=_PORT, metavar="N", help="Port of the API. [default: DEVICESTAT_HTTP_PORT, else 8000]"
)
@click.option(
    "--mqtt-port", type=click.IntRange(1, 65_535), default=1883, show_default=True, metavar="N",
    help="Port of the embedded broker.",
)  # fmt: skip
@INSECURE
@click.pass_context
def up(
    ctx: click.Context, *, demo: bool, data_dir: Path, http_port: int | None, mqtt_port: int, insecure: bool
) -> None:
    """Run everything on this machine.

    Starts an embedded PostgreSQL and Mosquitto, unless DEVICESTAT_DATABASE_URL and DEVICESTAT_MQTT_URL are set.
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


@main.command()
@click.option(
    "--roles", is_flag=True, help="Create a database role for each service, with the privileges that it needs."
)
@click.option(
    "--passwords",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="With --roles: set their passwords from the files ingestor, api and worker in DIR.",
)
@click.option("--distributed", is_flag=True, help="Distribute readings over the nodes of a Citus cluster.")
@click.option(
    "--shards", type=click.IntRange(1, 4096), metavar="N",
    help="With --distributed: number of shards, two to four for each node to come. [default: 8]",
)  # fmt: skip
@click.pass_context
def migrate(ctx: click.Context, *, roles: bool, passwords: Path | None, distributed: bool, shards: int | None) -> None:
    """Update the database schema."""
    if passwords is not None and not roles:
        raise click.UsageError("--passwords goes with --roles", ctx)
    if shards is not None and not distributed:
        raise click.UsageError("--shards goes with --distributed", ctx)
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
        click.echo(f"the roles {', '.join(SERVICES.values())} have the privileges that they need, and no others")
    if distributed:
        _distribute(settings, shards)


def _distribute(settings: "Settings", shards: int | None) -> None:
    from shared.postgres.distribution import distribute, survey

    cluster = ask_database(settings, survey)
    if cluster.rows:
        click.echo(
            f"about {cluster.rows:,} rows will be copied to the nodes, unless they are there already: "
            f"writes wait for about {cluster.seconds} s",
            err=True,
        )
    done = ask_database(settings, partial(distribute, shards=shards))
    how = f"over {done.shards} shards on {', '.join(done.nodes)}"
    click.echo(f"readings is {'now' if done.added else 'already'} distributed {how}")
    if done.added:
        click.echo("restart the services: their connections do not know yet")


@main.command()
@click.option(
    "--devices", type=click.IntRange(1, 100_000), default=10, show_default=True, metavar="N", help="Number of devices."
)
@click.option(
    "--rate", type=_Number(0.001, 1_000_000), default=10.0, show_default=True, metavar="R",
    help="Readings per second, over all devices.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(0), metavar="C", help="Stop after C readings, including the history.")
@click.option(
    "--history", type=_Number(0, _LONGEST_HISTORY_H), default=0.0, show_default=True, metavar="HOURS",
    help="Publish the readings of the preceding HOURS first.",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the signals.")
@click.option(
    "--api",
    metavar="URL",
    help="URL of the API that registers the devices. [default: from DEVICESTAT_HTTP_HOST and _PORT]",
)
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
    """Register simulated devices and publish readings for them."""
    settings = read_settings(ctx, "mqtt_url")
    from deploy.devices.api_client import base_url
    from deploy.simulate import devices as simulate
    from deploy.terminal import Terminal

    plan = simulate.Plan(devices=devices, rate=rate, count=count, history_h=history, seed=seed)
    simulate.simulate(settings, plan, api or base_url(settings.http_host, settings.http_port), Terminal())


@main.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check settings, database and broker."""
    from deploy.doctor import Severity, examine, report

    try:
        settings = read_settings(ctx, "database_url", "mqtt_url")
    except SettingsError as error:
        click.echo(report("settings", Severity.WRONG, error.faults))
        ctx.exit(1)
    findings = asyncio.run(examine(settings))
    click.echo(report("settings", Severity.OK, ["all are valid"]))
    for finding in findings:
        click.echo(report(finding.what, finding.severity, [finding.text]))
    if any(finding.severity is Severity.WRONG for finding in findings):
        ctx.exit(1)


main.add_command(blocks)
main.add_command(broker)
main.add_command(dead_letters)
main.add_command(devices_group)
main.add_command(keys)
main.add_command(systemd)
for service in (ingest, serve, work):
    main.add_command(service)

if __name__ == "__main__":
    main()
