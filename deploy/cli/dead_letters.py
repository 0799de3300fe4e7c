"""The commands `devicestat dead-letters list|show|replay|purge`; `deploy/dead_letters` does the work."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from deploy.command import ask_schema, read_settings
from shared.errors import LocalError
from shared.readings.model import Reason

if TYPE_CHECKING:
    from shared.dead_letters.selection import Selection

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@click.group("dead-letters")
def dead_letters() -> None:
    """Manage refused messages."""


def moment(value: str) -> datetime:
    """Parse a time: ISO 8601, by default in UTC, or a duration such as 2h before now."""
    try:
        if ago := re.fullmatch(r"(\d{1,6})([mhd])", value):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        given = datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        message = f"{value!r} is not a time: expected 2026-01-31T12:00, or 90m, 2h or 7d before now"
        raise click.BadParameter(message) from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def topic_filter(value: str) -> str:
    """Parse a topic filter."""
    from shared.dead_letters.selection import is_topic_filter

    if not is_topic_filter(value):
        message = f"{value!r} is not a topic filter: expected devices/1/stats, devices/+/stats or devices/#"
        raise click.BadParameter(message)
    return value


_SELECTING = (
    click.option("--reason", type=click.Choice([reason.value for reason in Reason]), help="Select by reason."),
    click.option(
        "--since",
        type=moment,
        metavar="TIME",
        help="Select those received at or after TIME, such as 2026-01-31T12:00 (UTC) or 2h (before now).",
    ),
    click.option("--until", type=moment, metavar="TIME", help="Select those received at or before TIME."),
    click.option("--topic", type=topic_filter, metavar="FILTER", help="Select by topic; + and # are wildcards."),
)


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select dead letters."""
    for option in reversed(_SELECTING):
        command = option(command)
    return command


def _selection(options: dict[str, Any]) -> "Selection":
    from shared.dead_letters.selection import Selection

    return Selection(**options)


@dead_letters.command("list")
@_selecting
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Maximum number, newest first.")
@click.pass_context
def list_(ctx: click.Context, /, limit: int, **options: Any) -> None:
    """List dead letters, newest first."""
    from deploy.dead_letters.display import table, total
    from deploy.terminal import Terminal
    from shared.dead_letters.letters import count, newest

    selection = _selection(options)
    letters = ask_schema(ctx, lambda connection: newest(connection, selection, limit))
    counted = ask_schema(ctx, lambda connection: count(connection, selection))
    terminal = Terminal()
    if letters:
        terminal.table(table(letters))
    terminal.say(f"{len(letters):,} of {total(counted)}" if letters else "no dead letters")


@dead_letters.command()
@click.argument("letter_id", metavar="ID", type=int)
@click.pass_context
def show(ctx: click.Context, letter_id: int) -> None:
    """Show a dead letter. A binary payload is shown as a hexdump."""
    from deploy.dead_letters.display import whole
    from shared.dead_letters.letters import one

    letter = ask_schema(ctx, lambda connection: one(connection, letter_id))
    if letter is None:
        raise LocalError(f"there is no dead letter {letter_id}: `devicestat dead-letters list` lists them")
    click.echo(whole(letter))


@dead_letters.command()
@_selecting
@click.pass_context
def replay(ctx: click.Context, /, **options: Any) -> None:
    """Process refused readings again.

    Prints the outcome of each dead letter. Readings that are refused again remain dead letters. Safe to interrupt and
    to repeat.
    """
    from deploy.dead_letters.replay import replay
    from deploy.terminal import Terminal

    settings = read_settings(ctx, "database_url")
    if not ask_schema(ctx, lambda connection: replay(connection, settings, _selection(options), Terminal())):
        raise click.Abort


@dead_letters.command()
@_selecting
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_context
def purge(ctx: click.Context, /, *, yes: bool, **options: Any) -> None:
    """Delete dead letters."""
    from deploy.dead_letters.display import total
    from shared.dead_letters.letters import count, purge
    from shared.dead_letters.selection import Selection
    from shared.status.words import counted

    found = ask_schema(ctx, lambda connection: count(connection, _selection(options)))
    if found.newest_id is None:
        click.echo("no dead letters")
        return
    if not yes:
        click.confirm(f"Delete {total(found)} for good?", abort=True)
    confirmed = Selection(**options, up_to=found.newest_id)
    deleted = ask_schema(ctx, lambda connection: purge(connection, confirmed))
    click.echo(f"deleted {counted(deleted, 'dead letter')}")
