"""The commands `devicestat broker sync|init`; `shared/broker` does the work."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.command import ask_database, read_settings
from shared.errors import LocalError

if TYPE_CHECKING:
    from shared.broker.device_credentials import DeviceCredential
    from shared.postgres.connections import Connection
    from shared.settings import Settings

_SETTINGS = ("mqtt_url", "mqtt_admin_url", "device_secret")


@click.group()
def broker() -> None:
    """Manage the users and permissions of the broker."""


@broker.command()
@click.option("--dry-run", is_flag=True, help="Print the differences and change nothing; exit with 1 if there are any.")
@click.pass_context
def sync(ctx: click.Context, *, dry_run: bool) -> None:
    """Compare the broker's dynamic security, or its password file, with the database, and repair it.

    It compares devices, their roles, the ingestor's user and role, and the default access. Other users of the broker
    are not changed. Clients whose credentials remain valid stay connected.
    """
    settings = read_settings(ctx, "database_url")
    if settings.broker_passwords is None:
        settings = read_settings(ctx, "database_url", *_SETTINGS)
    ask = _sync if settings.broker_passwords is None else _sync_file
    if not ask_database(settings, lambda connection: ask(connection, settings, dry_run=dry_run)):
        ctx.exit(1)


async def _sync(connection: "Connection", settings: "Settings", *, dry_run: bool) -> bool:
    """Return whether the broker agrees with the database at the end."""
    from shared.broker.dynamic_security.administration import administering
    from shared.broker.dynamic_security.sync import compare, mend

    async with administering(settings.broker_admin) as dynsec:
        comparison = await compare(connection, dynsec, settings)
        if comparison.count == 0:
            click.echo("the broker agrees with the database")
            return True
        if dry_run:
            found = comparison.others | {f"device {device_id}": each for device_id, each in comparison.devices.items()}
            for what, differences in found.items():
                click.echo(f"{what}: {'; '.join(one.what for one in differences)}")
            return False
        right = True
        async for outcome in mend(connection, dynsec, settings, comparison):
            click.echo(f"{outcome.what}: {'; '.join(outcome.differences)}: {outcome.fault or 'repaired'}")
            right &= outcome.fault is None
        return right


async def _sync_file(connection: "Connection", settings: "Settings", *, dry_run: bool) -> bool:
    """`_sync` for the file of BROKER_PASSWORDS."""
    from shared.broker.outbox import by_file
    from shared.broker.reconciliation import locked
    from shared.status.words import printable

    file = by_file(settings)
    comparison = await file.compare(connection)
    device_ids = comparison.differing
    for unfit in comparison.unfit:
        click.echo(f"device {unfit.device_id} cannot connect: {printable(str(unfit))}")
    lost: set[int] = set()
    for start in range(0, 0 if dry_run else len(device_ids), file.batch):
        async with locked(connection, wait=True):
            lost.update((await file.reconcile(connection, device_ids[start : start + file.batch])).lost)
    for device_id in device_ids:
        what = f"POST /devices/{device_id}/token gives it a new one" if device_id in lost else "repaired"
        click.echo(f"device {device_id}: a different line in the password file{'' if dry_run else f': {what}'}")
    if not device_ids:
        click.echo("the broker's password file agrees with the database")
    return not (lost or (dry_run and device_ids))


@broker.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--devices", is_flag=True, help="Include all devices of the database, for a broker that has lost them.")
@click.pass_context
def init(ctx: click.Context, *, file: Path, devices: bool) -> None:
    """Write FILE, the initial dynamic security configuration of a broker.

    The user of DEVICESTAT_MQTT_ADMIN_URL becomes the administrator, and the user of DEVICESTAT_MQTT_URL the ingestor.
    All other access is denied. Set plugin_opt_config_file in mosquitto.conf to FILE. Mosquitto needs write access to
    its directory.
    """
    settings = read_settings(ctx, *_SETTINGS, *(("database_url",) if devices else ()))
    from deploy.broker.first_file import first_file

    if file.exists() and file.stat().st_size > 0:
        raise LocalError(f"{file} exists, and is not overwritten: move it away, or choose another name")
    known = ask_database(settings, lambda connection: _every(connection, settings)) if devices else []
    _write(file, first_file(settings, known))
    click.echo(f"wrote {file}: make Mosquitto's user the owner of it and its directory")
    for device in (device for device in known if device.token is None):
        click.echo(
            f"device {device.id} is left out: its token cannot be derived again: POST /devices/{device.id}/token"
        )


async def _every(connection: "Connection", settings: "Settings") -> "list[DeviceCredential]":
    from shared.broker.device_credentials import all_credentials, device_secret

    return [device async for device in all_credentials(connection, device_secret(settings))]


def _write(file: Path, content: bytes) -> None:
    try:
        file.unlink(missing_ok=True)  # with an empty file, dynamic security would start without clients
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
    except OSError as error:
        raise LocalError(f"{file} cannot be written: {error.strerror}") from error
