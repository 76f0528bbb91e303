"""What the command line says: pictures and JSON on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import typer

from diffir_cli.errors import DiffIRError


def say(text: str) -> None:
    """A line for people; a terminal that has gone away is no reason to fail."""
    if sys.stderr is not None:
        with suppress(OSError):
            typer.echo(text, err=True)


def print_json(value: Mapping[str, Any]) -> None:
    """One object for programs, on one line.

    Raises:
        DiffIRError: when stdout cannot take it.
    """
    if sys.stdout is None:
        raise DiffIRError("standard output is closed, which --json writes to", "leave --json out")
    try:
        typer.echo(json.dumps(value, allow_nan=False))
        sys.stdout.flush()
    except OSError as error:
        # Else Python tries again at its end and prints a traceback.
        sys.stdout = None
        raise DiffIRError(
            f"cannot write the JSON to stdout: {error.strerror}",
            "the work itself is done; look at where stdout goes",
        ) from error


def write_stdout(data: bytes | memoryview) -> None:
    """A picture for the next program of a pipe.

    Raises:
        DiffIRError: when stdout cannot take it, or nobody reads it any more.
    """
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # Else Python tries again at its end and prints a traceback.
        sys.stdout = None
        raise DiffIRError(
            f"cannot write the picture to standard output: {error.strerror}",
            "look at where it goes, or name a file with -o",
        ) from error


def be_quiet(quiet: bool, verbose: bool = False) -> None:
    """Silence warnings, but not errors, or say more, where a user asked for it.

    Raises:
        BadParameter: when a user asked for both.
    """
    if quiet and verbose:
        raise typer.BadParameter("give --quiet or --verbose, not both")
    if quiet or verbose:
        logging.getLogger().setLevel(logging.ERROR if quiet else logging.INFO)


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True, words: int = 1
) -> None:
    """A table on stdout; numbers, in all columns but the first `words`, are never cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for place, title in enumerate(header):
        if place >= words and numbers:
            digits = max((len(row[place]) for row in rows), default=1)
            table.add_column(title, justify="right", overflow="fold", min_width=digits)
        else:
            table.add_column(title, overflow="fold")
    for row in rows:
        # Text, since a name may look like markup.
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        # Into a pipe or a file: as wide as it likes.
        console.width = 10_000
    console.print(table)


@contextmanager
def working(text: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A spinner while the block runs, where stderr is a terminal and nobody asked for silence.

    Yields:
        A function that shows what is being worked on.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _detail: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(text)) as status:
        yield lambda detail: status.update(Text(f"{text} {detail}"))
