"""Output of the commands: lines of programs, tables, and the panel of `up`.

Output may contain text from devices, so control characters are escaped: the terminal does not execute an escape
sequence from a payload.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from shared.status.words import printable

COLOURS = {
    "postgres": "blue",
    "mosquitto": "magenta",
    "ingestor": "green",
    "api": "cyan",
    "worker": "yellow",
    "devices": "bright_black",
}
RULE_WIDTH = 78
UNFOLDED = 10_000
NAME_WIDTH = max(map(len, COLOURS))


def shortened(text: str, length: int) -> str:
    """Return the text, truncated to the available width."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


class Terminal:
    """Standard output."""

    def __init__(self) -> None:
        # Output to a pipe or a file is not wrapped, for grep.
        self._console = _Console(highlight=False, width=None if sys.stdout.isatty() else UNFOLDED)

    def line(self, name: str, line: str) -> None:
        """Print a line of a program, after its name."""
        name_part = Text(f"{name:<{NAME_WIDTH}} │ ", style=COLOURS.get(name, "bold"))
        self._print(name_part + Text(printable(line)))

    def say(self, line: str) -> None:
        """Print a line of the command itself."""
        self._print(Text(printable(line), style="bold"))

    def table(self, table: Table) -> None:
        """Print a table."""
        self._console.print(table)

    def result(self, line: str) -> None:
        """Print a line of output that programs may read."""
        self._print(Text(printable(line)))

    @contextmanager
    def progress(self, total: int, doing: str) -> Iterator[Callable[[], None]]:
        """Show a progress bar if standard error is a terminal; the yielded function advances it by one.

        If standard output is a terminal too, usually the same one, its console draws the bar below the lines.
        """
        console = self._console if sys.stdout.isatty() else Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        hidden = not sys.stderr.isatty()
        with Progress(*columns, console=console, disable=hidden, redirect_stdout=False, redirect_stderr=False) as bar:
            task = bar.add_task(doing, total=total)
            yield partial(bar.advance, task)

    def panel(self, title: str, lines: Sequence[str]) -> None:
        """Print lines in a frame without sides, so that a line can be copied."""
        self._print(Text(f"── {title} ".ljust(RULE_WIDTH, "─"), style="green"))
        for line in lines:
            self._print(Text(line))
        self._print(Text("─" * RULE_WIDTH, style="green"))

    def _print(self, text: Text) -> None:
        try:
            self._console.print(text, soft_wrap=True)
        except OSError:  # the terminal was closed
            self._console.on_broken_pipe()


class _Console(Console):
    """Ignore a closed output, at which rich would exit: `up` must stop its children first."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
