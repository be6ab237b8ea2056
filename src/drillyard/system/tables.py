"""Tables: one model, and one renderer for each format.

A table for people has columns of texts; it becomes plain text, a rich table, Markdown, or HTML by
the templates of the report. A table for programs is CSV with full precision.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TextIO, TypeVar

from drillyard.system.durations import NOTHING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

T = TypeVar("T")
UNBROKEN = frozenset({"policy", "run", "status", "95 % interval", "range of seeds", "lease"})
"""Columns of words that are short enough for one line."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: The heading.
        cells: One text for each row.
        number: Aligned to the right.
        spare: A narrow terminal goes without it, because another table has it too.
    """

    title: str
    cells: tuple[str, ...]
    number: bool = False
    spare: bool = False

    @property
    def silent(self) -> bool:
        """Whether no row says anything."""
        return all(cell in ("", NOTHING) for cell in self.cells)

    @property
    def width(self) -> int:
        """Characters that it needs; the heading of a number may take two lines."""
        heading = max(self.title.rsplit(" ", 1), key=len) if self.number else self.title
        return max(map(len, (heading, *self.cells)))

    def padded(self) -> list[str]:
        """The heading, a rule and the cells, all of one width."""
        width = max(map(len, (self.title, *self.cells)))
        texts = (self.title, "-" * width, *self.cells)
        return [t.rjust(width) if self.number else t.ljust(width) for t in texts]


class Grid:
    """A table of texts.

    Args:
        title: What it shows; may be empty.
        columns: Its columns, with as many cells each.
    """

    def __init__(self, title: str, columns: Iterable[Column] = ()) -> None:
        self.title = title
        self.columns = list(columns)

    @property
    def header(self) -> tuple[str, ...]:
        """The headings."""
        return tuple(column.title for column in self.columns)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))

    def within(self, width: int) -> Grid:
        """The columns that fit into a number of characters.

        Columns that say nothing in any row go first; if that is not enough the spare ones, too.
        """
        if self._width() <= width:
            return self
        narrower = Grid(self.title, [c for c in self.columns if not (c.cells and c.silent)])
        if narrower._width() > width:
            narrower.columns = [c for c in narrower.columns if not c.spare]
        return narrower

    def _width(self) -> int:
        return sum(column.width + 2 for column in self.columns)

    def first(self, most: int) -> Grid:
        """The first rows, and in one more row how many are left."""
        left = len(self.rows) - most
        if left <= 0:
            return self
        rests = (f"… {left} more", *("" for _ in self.columns[1:]))
        return Grid(
            self.title,
            (
                Column(c.title, (*c.cells[:most], rest), c.number, c.spare)
                for c, rest in zip(self.columns, rests, strict=True)
            ),
        )

    def plain(self) -> str:
        """Aligned text without any control character."""
        lines = zip(*(column.padded() for column in self.columns), strict=True)
        title = [self.title] if self.title else []
        return "\n".join([*title, *("  ".join(line).rstrip() for line in lines)])

    def markdown(self) -> str:
        """A table in Markdown; ``|`` in a cell is escaped."""
        lines = [self.header, ("---",) * len(self.columns), *self.rows]
        cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
        return "\n".join(f"| {' | '.join(line)} |" for line in cells)

    def rich(self, width: int | None = None) -> RichTable:
        """A rich table; texts are taken as they are, never as markup.

        Args:
            width: Characters of the terminal; a narrow one goes without spare columns.
        """
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        grid = self if width is None else self.within(width)
        table = RichTable(
            title=Text(grid.title) if grid.title else None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
            header_style="bold",
        )
        for column in grid.columns:
            # A number that is cut in two is misread, so only columns with spaces wrap. Where the
            # rest does not fit even so, "…" says that something is missing.
            spaced = any(" " in cell for cell in column.cells)
            whole = column.title in UNBROKEN or (column.number and not spaced)
            table.add_column(
                "\n".join(column.title.rsplit(" ", 1)) if column.number else column.title,
                no_wrap=whole,
                justify="right" if column.number else "left",
                overflow="ellipsis" if whole else "fold",
            )
        agents = grid.header[0] == "policy"
        for row in grid.rows:
            bold = agents and row[0].split(" ")[0] == "agent"
            table.add_row(*map(Text, row), style="bold" if bold else None)
        return table


class Table(Grid, Generic[T]):
    """A table with one row for each item; its columns are added one by one.

    Args:
        title: What it shows; may be empty.
        items: What the rows are made from.
    """

    def __init__(self, title: str, items: Iterable[T]) -> None:
        super().__init__(title)
        self._items = tuple(items)

    def text(
        self,
        title: str,
        cell: Callable[[T], str | None],
        *,
        number: bool = False,
        spare: bool = False,
    ) -> Self:
        """Adds a column of words.

        Args:
            title: The heading.
            cell: The text for an item; None: there is nothing to say.
            number: Align it to the right.
            spare: See ``Column``.
        """
        cells = (cell(item) for item in self._items)
        texts = tuple(NOTHING if text is None else text for text in cells)
        self.columns.append(Column(title, texts, number, spare))
        return self

    def number(
        self, title: str, cell: Callable[[T], str | int | None], *, spare: bool = False
    ) -> Self:
        """Adds a column of numbers; a whole number gets its thousands separated."""

        def text(item: T) -> str | None:
            value = cell(item)
            return f"{value:,}" if isinstance(value, int) else value

        return self.text(title, text, number=True, spare=spare)


def rows_grid(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Grid:
    """A table of words.

    Args:
        title: What it shows.
        header: The headings.
        rows: The cells, row by row.
    """
    cells = list(zip(*rows, strict=True)) or [()] * len(header)
    return Grid(title, map(Column, header, cells))


# -- tables for programs --------------------------------------------------------------------------


def csv_of(items: Iterable[T], columns: Mapping[str, Callable[[T], object]]) -> str:
    """CSV text with one line for each item.

    Args:
        items: What the lines are made from.
        columns: Heading -> the value for an item.
    """
    return to_csv(list(columns), ([cell(item) for cell in columns.values()] for item in items))


def csv_of_rows(rows: Sequence[Mapping[str, object]]) -> str:
    """CSV text with a column for each key of any row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return to_csv(names, ([row.get(name) for name in names] for row in rows))


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV text; see ``write_csv``."""
    out = io.StringIO()
    write_csv(out, header, rows)
    return out.getvalue()


def write_csv(file: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes CSV whose lines end as on Unix.

    None is an empty cell, a nested value is JSON. A text that a spreadsheet would take for a
    formula (names are the user's) gets an apostrophe; a number that is a text stays a number.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: object) -> object:
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return value if _reads_as_number(value) else "'" + value
    return value


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
