"""The table, for a terminal or for docs/benchmarks.md, and the remarks below it."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.benchmarks.pairs import PAIRS, Finding, Grid, Ratio

HEADINGS = (
    "benchmark",
    "compared with",
    "Devicestat",
    "other side",
    f"ratio: median of {PAIRS} (least to most)",
    "target",
)
WIDTH = 165


def show(findings: Sequence[Finding]) -> None:
    """Print the table for a terminal."""
    _show("", HEADINGS, [ratio.row() for ratio in _ratios(findings)])
    for grid in _grids(findings):
        _show(grid.title, grid.headings, grid.rows)
    print(f"\n{_remarks(findings)}")  # noqa: T201


def _show(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*headings, title=title or None, box=None)
    for row in rows:
        table.add_row(*row)
    Console(width=WIDTH).print(table)


def markdown(findings: Sequence[Finding]) -> str:
    """Print the tables as Markdown."""
    first = _lines(HEADINGS, [ratio.row() for ratio in _ratios(findings)])
    others = [f"{grid.title}:\n\n{_lines(grid.headings, grid.rows)}" for grid in _grids(findings)]
    return "\n\n".join([first, *others, _remarks(findings)])


def _lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    every = [headings, ("---",) * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in every)


def _ratios(findings: Sequence[Finding]) -> list[Ratio]:
    return [finding for finding in findings if isinstance(finding, Ratio)]


def _grids(findings: Sequence[Finding]) -> list[Grid]:
    return [finding for finding in findings if isinstance(finding, Grid)]


def _remarks(findings: Sequence[Finding]) -> str:
    return "\n".join(f"- {finding}" for finding in findings if isinstance(finding, str))
