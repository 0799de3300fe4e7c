"""The commands `devicestat keys create|list|revoke|rotate`; what they do is in `shared/access/keys.py`.

A key is shown once, alone on standard output, for KEY=$(devicestat keys create --role analyst). Nothing else ever
shows one, not even the fault of a command that was given one.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import click

from deploy.cli.command import ask_database, operator, read_settings
from shared.access.credentials import GivenKey, Role, read

if TYPE_CHECKING:
    from shared.access.audit import Actor
    from shared.access.credentials import NewKey
    from shared.postgres.connections import Connection

_PREFIX = re.compile(r"dsk_[a-z0-9]{8}", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_MAX_NAME_LENGTH = 200  # as the database has it
_ONCE = "It is shown this once: keep it as you keep passwords"
_Answer = TypeVar("_Answer")


@click.group()
def keys() -> None:
    """Make, list and revoke the keys that people and tools show to the API."""


def duration(value: str) -> timedelta:
    """A span of time as the options take it: 90m, 24h or 7d."""
    given = re.fullmatch(r"([1-9]\d{0,5})([mhd])", value, re.ASCII)
    if given is None:
        raise click.BadParameter(f"{value!r} is no span of time: it takes 90m, 24h or 7d")
    return timedelta(**{_UNITS[given[2]]: int(given[1])})


def expiry(value: str) -> datetime:
    """A time to come: ISO 8601, in UTC unless it has an offset, or 90d from now."""
    now = datetime.now(UTC)
    try:
        given = now + duration(value) if value[-1:] in _UNITS else datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        message = f"{value!r} is no time: it takes 2027-01-31, 2027-01-31T12:00 (UTC), or 90d for so long from now"
        raise click.BadParameter(message) from None
    given = given if given.tzinfo else given.replace(tzinfo=UTC)
    if given <= now:
        raise click.BadParameter(f"{value} has passed: a key that expires then opens nothing")
    return given


def name(value: str) -> str:
    """What a key is for: a line of text."""
    if len(value) > _MAX_NAME_LENGTH or not value.isprintable():
        raise click.BadParameter(f"it takes up to {_MAX_NAME_LENGTH} characters that can be printed")
    return value


def prefix(value: str) -> str:
    """The prefix of a key, also where the whole key is given. A fault does not repeat what may be a secret."""
    whole = read(value.strip())
    if isinstance(whole, GivenKey):
        return whole.prefix
    if not _PREFIX.fullmatch(value.strip()):
        message = "it takes dsk_ and the eight characters after it, as `devicestat keys list` shows them"
        raise click.BadParameter(message)
    return value.strip()


@keys.command()
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What it is good for.")
@click.option("--name", type=name, default="", metavar="TEXT", help="Whose it is, or what for.")
@click.option(
    "--expires", type=expiry, metavar="TIME", help="At 2027-01-31 (UTC), or in 90d. [default: when it is revoked]"
)
@click.pass_context
def create(ctx: click.Context, *, role: str, name: str, expires: datetime | None) -> None:
    """Make a key, and show it this once.

    admin: everything. analyst: read, and queue analyses. writer: store readings, nothing else.
    """
    from shared.access.keys import create

    key = _ask(ctx, lambda connection, actor: create(connection, actor, Role(role), name, expires))
    _show(key, f"{key.prefix}: {role}, valid until {_until(expires)}")


@keys.command("list")
@click.option("--all", "also_ended", is_flag=True, help="Also those that are revoked or have expired.")
@click.pass_context
def list_(ctx: click.Context, *, also_ended: bool) -> None:
    """List them, the oldest first; of a key itself nothing but the prefix is kept."""
    from deploy.cli.keys_table import summary, table
    from deploy.cli.terminal import Terminal
    from shared.access.keys import KeyState, all_keys

    found = _ask(ctx, lambda connection, _: all_keys(connection))
    shown = [key for key in found if also_ended or key.state is KeyState.VALID]
    terminal = Terminal()
    if shown:
        terminal.table(table(shown))
    terminal.say(summary(len(shown), len(found)))


@keys.command()
@click.argument("prefix", type=prefix)
@click.pass_context
def revoke(ctx: click.Context, prefix: str) -> None:
    """End a key: within a second every API process refuses it."""
    from shared.access.keys import KeyState, revoke

    key = _ask(ctx, lambda connection, actor: revoke(connection, actor, prefix))
    if key.state is KeyState.REVOKED:
        click.echo(f"{prefix} was revoked already, at {key.revoked_at:%Y-%m-%d %H:%M:%S} UTC")
    else:
        click.echo(f"{prefix} is revoked")


@keys.command()
@click.argument("prefix", type=prefix)
@click.option("--expires", type=expiry, metavar="TIME", help="The new key's. [default: the old one's]")
@click.option(
    "--grace", type=duration, metavar="TIME", help="Let the old key hold for 24h more. [default: it is revoked at once]"
)
@click.pass_context
def rotate(ctx: click.Context, *, prefix: str, expires: datetime | None, grace: timedelta | None) -> None:
    """Make a key in place of another, with its role and name, and show it this once."""
    from shared.access.keys import rotate

    key = _ask(ctx, lambda connection, actor: rotate(connection, actor, prefix, expires_at=expires, grace=grace))
    old = "is revoked" if grace is None else f"holds until {_until(datetime.now(UTC) + grace)} at most"
    _show(key, f"{key.prefix} takes the place of {prefix}, which {old}")


def _show(key: "NewKey", remark: str) -> None:
    click.echo(f"{remark}. {_ONCE}.", err=True)
    click.echo(key.text)


def _until(moment: datetime | None) -> str:
    return "it is revoked" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _ask(ctx: click.Context, ask: Callable[["Connection", "Actor"], Awaitable[_Answer]]) -> _Answer:
    settings = read_settings(ctx, "database_url")
    from shared.postgres.migrate import check_schema

    async def asking(connection: "Connection") -> _Answer:
        await check_schema(connection)
        return await ask(connection, operator())

    return ask_database(settings, asking)
