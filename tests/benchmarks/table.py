"""The table, for a terminal or for docs/benchmarks.md, and the remarks below it."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.benchmarks.pairs import PAIRS, Finding, Ratio

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
    table = Table(*HEADINGS, box=None)
    for ratio in _ratios(findings):
        table.add_row(*ratio.row())
    Console(width=WIDTH).print(table)
    print(f"\n{_remarks(findings)}")  # noqa: T201


def markdown(findings: Sequence[Finding]) -> str:
    """Print the table as Markdown."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(ratio.row() for ratio in _ratios(findings))]
    lines = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join(lines) + "\n\n" + _remarks(findings)


def _ratios(findings: Sequence[Finding]) -> list[Ratio]:
    return [finding for finding in findings if isinstance(finding, Ratio)]


def _remarks(findings: Sequence[Finding]) -> str:
    return "\n".join(f"- {finding}" for finding in findings if isinstance(finding, str))
