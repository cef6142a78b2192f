"""The output of a command: data goes to stdout, everything else to stderr.

`rich` is loaded only when it is needed, and only for a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO

from .times import table_time

if TYPE_CHECKING:
    from rich.console import Console


MARKS: Final = ">~@"
"""Characters that the title of a column may end with, see `write_listing`."""
GAP: Final = 2
FOLDED: Final = 6
"""Least width of a column that may be folded; if that is too much, all columns are folded."""


class CommandOutput:
    """Prints the messages of a command; options of all commands set how much, and the colours."""

    __slots__ = ("no_color", "quiet", "verbose")

    def __init__(self) -> None:
        self.quiet, self.verbose, self.no_color = False, 0, False

    def note(self, text: str) -> None:
        """Print a message to stderr, unless `-q` is set."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def detail(self, text: str) -> None:
        """Print a message to stderr if `-v` is set."""
        if self.verbose:
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def rich_console(self, *, stderr: bool = False) -> Console:
        """Return a console of `rich`; it honours `NO_COLOR`, `FORCE_COLOR` and `--no-color`."""
        from rich.console import Console

        return Console(stderr=stderr, no_color=True if self.no_color else None, highlight=False)


output = CommandOutput()


def is_terminal(stream: TextIO) -> bool:
    """Whether this stream is a terminal, or `FORCE_COLOR` says that it is."""
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def shows_colour(stream: TextIO) -> bool:
    """Whether this stream is a terminal and colours are not switched off."""
    return is_terminal(stream) and not output.no_color and not os.environ.get("NO_COLOR")


def write_line(line: bytes) -> None:
    """Write one line of data."""
    sys.stdout.buffer.write(line + b"\n")


def write_json(value: object) -> None:
    """Write one JSON document of data."""
    import orjson

    write_line(orjson.dumps(value))


def write_listing(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, none: str
) -> None:
    """Write a listing: a JSON array of objects, or a table.

    Args:
        rows: The objects.
        columns: Columns of the table: key of the object, and title. A title that ends with `>`
            marks a column of numbers (aligned to the right), `@` one of times (shown to the
            second), `~` one that may be folded if the terminal is too narrow.
        as_json: Write the array.
        none: Message on stderr if the table has no rows.
    """
    if as_json:
        write_json(list(rows))
        return
    if not rows:
        output.note(none)
        return
    titles = list(columns.values())
    cells = [
        [_cell(table_time(row[key]) if title.endswith("@") else row[key])
         for key, title in columns.items()]
        for row in rows
    ]  # fmt: skip
    if is_terminal(sys.stdout):
        _rich_table(titles, cells)
    else:
        _plain_table(titles, cells)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Any]:
    """Show a bar on stderr if that is a terminal; yields a function that takes the progress."""
    if output.quiet or not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), "{task.percentage:>3.0f}%", TimeRemainingColumn())
    with Progress(*columns, console=output.rich_console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


def _cell(value: object) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(map(str, value))
    return str(value)


def _rich_table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal; titles are folded first, then times, then the rest."""
    from rich.table import Table
    from rich.text import Text

    console = output.rich_console()
    if _width(titles, cells) > console.width and any(" " in title for title in titles):
        titles = ["\n" * (" " not in title) + title.replace(" ", "\n") for title in titles]
    if _width(titles, cells) > console.width:
        cells = [
            [text.replace(" ", "\n") if title.endswith("@") else text
             for title, text in zip(titles, row, strict=True)]
            for row in cells
        ]  # fmt: skip
    least = [
        [text[:FOLDED] if title.endswith("~") else text
         for title, text in zip(titles, row, strict=True)]
        for row in cells
    ]  # fmt: skip
    folds_all = _width(titles, least) > console.width
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for title in titles:
        table.add_column(
            title.rstrip(MARKS),
            justify="right" if title.endswith(">") else "left",
            overflow="fold",
            no_wrap=not (folds_all or title.endswith("~")),
        )
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _width(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return the width of a table in which nothing is folded."""
    from rich.cells import cell_len

    heads = [title.rstrip(MARKS) for title in titles]
    lines = [[line for text in column for line in text.split("\n")]
             for column in zip(heads, *rows, strict=True)]  # fmt: skip
    return sum(max(map(cell_len, column)) for column in lines) + GAP * (len(titles) - 1)


def _plain_table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    rows = [[title.rstrip(MARKS) for title in titles], *cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    for row in rows:
        padded = [
            text.rjust(width) if title.endswith(">") else text.ljust(width)
            for title, text, width in zip(titles, row, widths, strict=True)
        ]
        write_line("  ".join(padded).rstrip().encode())
