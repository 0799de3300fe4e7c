"""The command `devicestat systemd install`; `deploy/systemd/files.py` has the files."""

import click

from shared.errors import LocalError


@click.group()
def systemd() -> None:
    """Set up a host that runs the services under systemd (docs/systemd.md)."""


@systemd.command()
@click.option(
    "--names", required=True, metavar="NAME[,NAME...]",
    help="Host names and addresses of this host, for its certificate.",
)  # fmt: skip
def install(*, names: str) -> None:
    """Write secrets, certificates, configurations and units, in /etc/devicestat and /etc/systemd/system.

    Safe to run again: secrets and settings that are there stay as they are. Certificates are made anew in their last
    month or for other names; units and the configurations of Mosquitto and Caddy become those of this version.
    """
    from deploy.systemd.files import install, look

    try:
        written = install(look(), names)
    except OSError as error:
        raise LocalError(f"{error.filename} cannot be written: {error.strerror}. Run this command as root") from error
    for file in written:
        click.echo(f"wrote {file}")
    click.echo(f"{len(written)} files written; `systemctl daemon-reload` has systemd read the units")
