"""The results of a run, as tables in Markdown."""

import os
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "DEVICESTAT_TEST_BROKERS_REPORT"
"""Variable that names a file for the tables, which are always printed."""


class Report:
    """Cells by table, row and column, in the order of insertion."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, dict[str, str]]] = {}

    def add(self, table: str, row: str, column: str, cell: object) -> None:
        """Fill a cell; a filled cell gets another line."""
        cells = self._tables.setdefault(table, {}).setdefault(row, {})
        cells[column] = f"{cells[column]}; {cell}" if column in cells else str(cell)

    def lines(self) -> Iterator[str]:
        """The tables."""
        for title, rows in self._tables.items():
            columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
            yield from (f"### {title}", "", _row("", *columns), _row(*["---"] * (len(columns) + 1)))
            yield from (_row(row, *(cells.get(column, "-") for column in columns)) for row, cells in rows.items())
            yield ""

    def save(self) -> None:
        """Write the file, if one is named."""
        if (path := os.environ.get(VARIABLE)) and self._tables:
            Path(path).write_text("\n".join(self.lines()))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
