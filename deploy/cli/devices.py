"""The command `devicestat devices import`; `deploy/devices/imports.py` does the work."""

from contextlib import closing
from pathlib import Path

import click

from deploy.command import read_settings


@click.group()
def devices() -> None:
    """Import devices."""


@devices.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--tokens",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Append the tokens to FILE, which only its owner can read. [default: standard output]",
)
@click.option("--api", metavar="URL", help="URL of the API. [default: from DEVICESTAT_HTTP_HOST and _PORT]")
@click.pass_context
def import_(ctx: click.Context, *, file: Path, tokens: Path | None, api: str | None) -> None:
    """Register the devices of FILE, a CSV file with the header key,name ("-": standard input).

    Devices whose keys exist are skipped, so the command can be run again. If a line is invalid, nothing is registered.
    The output is CSV with the columns key, id, mqtt_username and token. A token is shown only once.
    """
    settings = read_settings(ctx)
    from deploy.devices.api_client import ApiClient, base_url
    from deploy.devices.imports import IMPORT_TIMEOUT_S, import_devices, read_file

    found = read_file(file)
    base = api or base_url(settings.http_host, settings.http_port)
    with closing(ApiClient(base, settings.api_key, timeout_s=IMPORT_TIMEOUT_S)) as client:
        import_devices(client, found, tokens)
