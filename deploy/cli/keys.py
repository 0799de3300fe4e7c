"""The commands `devicestat keys create|list|revoke|rotate`; `shared/access/keys.py` does the work.

A new key is the only text on standard output, for KEY=$(devicestat keys create --role analyst). No other output
contains a key, not even the error of a command that was given one.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from deploy.command import ask_schema, operator
from shared.access.credentials import GivenKey, Role, read

if TYPE_CHECKING:
    from rich.table import Table

    from shared.access.credentials import NewKey
    from shared.access.keys import AccessKey

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_ONCE = "It is shown only once: store it like a password"
_COLUMNS = ("prefix", "role", "state", "created", "expires", "last used")


@click.group()
def keys() -> None:
    """Manage API keys of people and tools."""


def duration(value: str) -> timedelta:
    """Parse a duration such as 90m, 24h or 7d."""
    given = re.fullmatch(r"([1-9]\d{0,5})([mhd])", value, re.ASCII)
    if given is None:
        raise click.BadParameter(f"{value!r} is not a duration: expected 90m, 24h or 7d")
    return timedelta(**{_UNITS[given[2]]: int(given[1])})


def expiry(value: str) -> datetime:
    """Parse a time in the future: ISO 8601, by default in UTC, or a duration from now such as 90d."""
    now = datetime.now(UTC)
    try:
        given = now + duration(value) if value[-1:] in _UNITS else datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        message = f"{value!r} is not a time: expected 2027-01-31, 2027-01-31T12:00 (UTC), or 90d from now"
        raise click.BadParameter(message) from None
    given = given if given.tzinfo else given.replace(tzinfo=UTC)
    if given <= now:
        raise click.BadParameter(f"{value} is in the past: the key would be invalid")
    return given


def name(value: str) -> str:
    """Parse the name of a key: one line of text."""
    from shared.access.keys import NAME_RULE, is_name

    if not is_name(value):
        raise click.BadParameter(f"expected {NAME_RULE}")
    return value


def prefix(value: str) -> str:
    """Return the prefix of a key, which may be given whole. Errors do not repeat the argument: it may be secret."""
    from shared.access.keys import is_prefix

    whole = read(value.strip())
    if isinstance(whole, GivenKey):
        return whole.prefix
    if not is_prefix(value.strip()):
        message = "expected dsk_ and the eight characters after it, as `devicestat keys list` shows them"
        raise click.BadParameter(message)
    return value.strip()


@keys.command()
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="Role of the key.")
@click.option("--name", type=name, default="", metavar="TEXT", help="Owner or purpose.")
@click.option("--expires", type=expiry, metavar="TIME", help="Expire at 2027-01-31 (UTC), or in 90d. [default: never]")
@click.pass_context
def create(ctx: click.Context, *, role: str, name: str, expires: datetime | None) -> None:
    """Create a key and show it once.

    admin: everything. analyst: read and queue analyses. writer: store readings.
    """
    from shared.access.keys import create

    key = ask_schema(ctx, lambda connection: create(connection, operator(), Role(role), name, expires))
    _show(key, f"{key.prefix}: {role}, valid until {_until(expires)}")


@keys.command("list")
@click.option("--all", "also_ended", is_flag=True, help="Include revoked and expired keys.")
@click.pass_context
def list_(ctx: click.Context, *, also_ended: bool) -> None:
    """List the keys by their prefixes, oldest first."""
    from deploy.terminal import Terminal
    from shared.access.keys import KeyState, all_keys

    found = ask_schema(ctx, all_keys)
    shown = [key for key in found if also_ended or key.state is KeyState.VALID]
    terminal = Terminal()
    if shown:
        terminal.table(_table(shown))
    terminal.say(_summary(len(shown), len(found)))


@keys.command()
@click.argument("prefix", type=prefix)
@click.pass_context
def revoke(ctx: click.Context, prefix: str) -> None:
    """Revoke a key. Every API process refuses it within a second."""
    from shared.access.keys import KeyState, revoke

    key = ask_schema(ctx, lambda connection: revoke(connection, operator(), prefix))
    if key.state is KeyState.REVOKED:
        click.echo(f"{prefix} was already revoked, at {key.revoked_at:%Y-%m-%d %H:%M:%S} UTC")
    else:
        click.echo(f"{prefix} is revoked")


@keys.command()
@click.argument("prefix", type=prefix)
@click.option("--expires", type=expiry, metavar="TIME", help="Expiry of the new key. [default: that of the old key]")
@click.option(
    "--grace",
    type=duration,
    metavar="TIME",
    help="Keep the old key valid for TIME, such as 24h. [default: revoke it immediately]",
)
@click.pass_context
def rotate(ctx: click.Context, *, prefix: str, expires: datetime | None, grace: timedelta | None) -> None:
    """Replace a key with a new one that has the same role and name, and show it once."""
    from shared.access.keys import rotate

    key = ask_schema(ctx, lambda connection: rotate(connection, operator(), prefix, expires_at=expires, grace=grace))
    old = "is revoked" if grace is None else f"is valid until {_until(datetime.now(UTC) + grace)} at most"
    _show(key, f"{key.prefix} replaces {prefix}, which {old}")


def _show(key: "NewKey", remark: str) -> None:
    click.echo(f"{remark}. {_ONCE}.", err=True)
    click.echo(key.text)


def _until(moment: datetime | None) -> str:
    return "it is revoked" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _table(keys: Sequence["AccessKey"]) -> "Table":
    """Return a table with a row for each key; times are in UTC."""
    from rich.table import Table
    from rich.text import Text

    from shared.status.words import printable

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        shown.add_column(column, no_wrap=True)
    shown.add_column("name", overflow="fold")
    for key in keys:
        times = (key.created_at, key.expires_at, key.last_used_at)
        fields = (key.prefix, key.role, key.state, *map(_moment, times), key.name)
        shown.add_row(*(Text(printable(field)) for field in fields))
    return shown


def _summary(shown: int, all_of_them: int) -> str:
    """Return the number of listed keys, and of those that are not listed."""
    from shared.status.words import counted

    ended = all_of_them - shown
    if all_of_them == 0:
        return "no keys: create the first with `devicestat keys create --role admin`"
    return counted(shown, "key") + (f"; {ended:,} more ended: --all shows them" if ended else "")


def _moment(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
