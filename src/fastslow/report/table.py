"""Tables of a report: what the page shows is what the CSV file holds."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastslow.text import spell_hidden

Cell = str | int | float | None
"""None: nothing was measured. It is an empty cell, never 0."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns.

    Attributes:
        name: stem of its CSV file.
        caption: what the rows are and how their numbers were made.
        columns: names; each is unique.
        rows: one cell a column.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def measured(self) -> Table:
        """The same table without the columns in which no row has anything."""
        kept = [i for i in range(len(self.columns)) if any(row[i] is not None for row in self.rows)]
        rows = [[row[i] for i in kept] for row in self.rows]
        return Table(self.name, self.caption, [self.columns[i] for i in kept], rows)


def write_tables(tables: Iterable[Table], folder: Path) -> None:
    """Write each table as ``folder``/NAME.csv, in UTF-8, with full precision. Raises: OSError."""
    folder.mkdir(exist_ok=True)
    for table in tables:
        with (folder / f"{table.name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([_plain(column) for column in table.columns])
            writer.writerows([_plain(cell) for cell in row] for row in table.rows)


def _plain(cell: Cell) -> Cell:
    """Texts as spreadsheets may safely read them: one that would be a formula gets an apostrophe
    before it. Numbers stay as they are."""
    if not isinstance(cell, str):
        return cell
    shown = spell_hidden(cell)
    return f"'{shown}" if cell.lstrip().startswith(("=", "+", "-", "@")) else shown
