"""How the command line prints: plain text in a pipe, tables and colours in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 140
"""Columns when the output is no terminal, so that tables are not squeezed into 80."""


def make_console() -> Console:
    """A console that prints brackets as they are: ours mean units."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def make_table(title: str, *columns: str) -> Table:
    """A table whose columns are right-aligned when their heading begins with ``>``."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table


def tell_of_idle_workers(episodes: int, workers: int | None) -> None:
    """Print a line when fewer ``workers`` can be used than were asked for (None: nobody asked)."""
    from onedp.evaluate.groups import idle_workers

    line = idle_workers(episodes, workers)
    if line:
        print(line)
