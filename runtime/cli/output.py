"""What a command says: documents for programs on standard output, or tables for people; all else on standard error.

Everything that is printed passes `text.safe` here, whoever made it: what a job holds can't move a terminal's cursor.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import click
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

from runtime.cli.text import document, safe
from runtime.cli.trouble import USAGE, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_STYLES = {
    "failed": "red",
    "success": "green",
    "in_progress": "cyan",
    "canceled": "dim",
    "skipped": "yellow",
    "error": "red",
    "warning": "yellow",
}


_WHOLE_MAX: Final = 34  # cells: an id, or a moment


class Table(NamedTuple):
    """Rows under a head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str = "nothing"


class Facts(NamedTuple):
    """Names and what they are, one a line."""

    pairs: Sequence[tuple[str, str]]


class Lines(NamedTuple):
    """Lines, as they are."""

    lines: Sequence[str]


Block: TypeAlias = "Table | Facts | Lines"


class Output:
    """Where a command's words go. `for_people` is whether standard output is a terminal."""

    def __init__(self, *, as_json: bool, for_people: bool | None = None) -> None:
        self.as_json = as_json
        self._people = sys.stdout.isatty() if for_people is None else for_people

    def show(self, value: Any, blocks: Callable[[], Sequence[Block]]) -> None:
        """Print a document as one line of JSON, or what it looks like to people."""
        if self.as_json:
            click.echo(document(value))
            return
        for at, block in enumerate(blocks()):
            if at:
                click.echo()
            self._print(block)

    def event(self, value: Any, cells: Sequence[str]) -> None:
        """Print one of a stream of documents, in one line."""
        click.echo(document(value) if self.as_json else "  ".join(map(safe, cells)))

    def note(self, text: str) -> None:
        """Say something that is not the answer."""
        click.echo(safe(text), err=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only when a person says yes. Raises Trouble where there is none, and click.Abort."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise Trouble(USAGE, f"{question} To go on without being asked: --yes")
        click.confirm(safe(question), abort=True, err=True)

    @contextlib.contextmanager
    def working(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show that something takes its time, on a terminal; what is given out counts the bytes that are done."""
        if not sys.stderr.isatty():
            yield lambda _: None
            return
        counts = (BarColumn(), DownloadColumn()) if total is not None else (SpinnerColumn(),)
        console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        columns = (TextColumn("{task.description}", markup=False), *counts, TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(safe(what), total=total)
            yield lambda done: progress.advance(task, done)

    # ------------------------------------------------------------ blocks

    def _print(self, block: Block) -> None:
        match block:
            case Table(head, rows, empty):
                safe_rows = [[safe(cell) for cell in row] for row in rows]
                if not safe_rows:
                    click.echo(safe(empty))
                elif self._people:
                    _console().print(_rich(head, safe_rows))
                else:
                    click.echo("\n".join(_plain([list(head), *safe_rows])))
            case Facts(pairs):
                width = max((len(name) for name, _ in pairs), default=0)
                for name, text in pairs:
                    label = safe(name).ljust(width)
                    click.echo(f"{click.style(label, dim=True) if self._people else label}  {safe(text)}".rstrip())
            case Lines(lines):
                for line in lines:
                    click.echo(safe(line))


def _console() -> Console:
    return Console(markup=False, highlight=False, emoji=False, force_terminal=True)


def _rich(head: Sequence[str], rows: Sequence[Sequence[str]]) -> RichTable:
    """Return a table that fits the terminal: columns with long cells are folded, ids and moments are not."""
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for name, column in zip(head, zip(*rows, strict=True), strict=True):
        table.add_column(Text(name), overflow="fold", no_wrap=max(map(cell_len, column)) <= _WHOLE_MAX)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table


def _plain(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table for pipes and files: whole cells, two spaces between columns."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()
