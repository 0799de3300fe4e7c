"""How `devicestat keys list` shows keys."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from deploy.cli.terminal import counted, printable
from shared.access.keys import AccessKey

_COLUMNS = ("prefix", "role", "state", "created", "expires", "last used")


def table(keys: Sequence[AccessKey]) -> Table:
    """The list, a line each; times are in UTC."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        shown.add_column(column, no_wrap=True)
    shown.add_column("name", overflow="fold")
    for key in keys:
        times = (key.created_at, key.expires_at, key.last_used_at)
        fields = (key.prefix, key.role, key.state, *map(_moment, times), key.name)
        shown.add_row(*(Text(printable(field)) for field in fields))
    return shown


def summary(shown: int, all_of_them: int) -> str:
    """How many are listed, and that there were others."""
    ended = all_of_them - shown
    if all_of_them == 0:
        return "no keys: `devicestat keys create --role admin` makes the first"
    return counted(shown, "key") + (f"; {ended:,} more ended: --all shows them" if ended else "")


def _moment(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
