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

    Safe to run again: existing secrets and settings are kept. Certificates are renewed in their last month and when the
    names change. Units and the configurations of Mosquitto and Caddy are replaced by those of this version.
    """
    from deploy.systemd.files import install, look

    try:
        written = install(look(), names)
    except OSError as error:
        raise LocalError(f"{error.filename} cannot be written: {error.strerror}. Run this command as root") from error
    for file in written:
        click.echo(f"wrote {file}")
    click.echo(f"{len(written)} files written; run `systemctl daemon-reload` to load the units")
