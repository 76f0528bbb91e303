"""What the command line says: pictures and JSON on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer


def say(text: str) -> None:
    """A line for people."""
    typer.echo(text, err=True)


def print_json(value: Mapping[str, Any]) -> None:
    """One object for programs, on one line."""
    typer.echo(json.dumps(value, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; the first column is text, the others are numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for place, title in enumerate(header):
        table.add_column(title, justify="right" if place else "left")
    for row in rows:
        # Text, since a name may look like markup.
        table.add_row(*map(Text, row))
    Console().print(table)


@contextmanager
def working(text: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A spinner while the block runs, where stderr is a terminal and nobody asked for silence.

    Yields:
        A function that shows what is being worked on.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _detail: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(text)) as status:
        yield lambda detail: status.update(Text(f"{text} {detail}"))
