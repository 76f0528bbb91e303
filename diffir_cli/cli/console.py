"""What the command line says: pictures and JSON on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

import typer

from diffir_cli.errors import DiffIRError
from diffir_cli.util.text import shown


def print_message(text: str, prefix: str = "") -> None:
    """A line for people, behind a prefix that may have colours.

    A terminal that has gone away is no reason to fail.
    """
    if sys.stderr is not None:
        with suppress(OSError):
            typer.echo(prefix + shown(text), err=True)


def print_json(value: Mapping[str, Any]) -> None:
    """One object for programs, on one line.

    Raises:
        DiffIRError: when stdout cannot take it.
    """
    if sys.stdout is None:
        raise DiffIRError("standard output is closed, which --json writes to", "leave --json out")
    with _writing("the JSON to stdout", "check where stdout goes"):
        # The one control character that JSON lets pass.
        typer.echo(json.dumps(value, allow_nan=False).replace("\x7f", "\\u007f"))
        sys.stdout.flush()


def print_result(as_json: bool, quiet: bool, found: Mapping[str, Any], text: str) -> None:
    """What came of a command: an object for programs, or a line for people who want one.

    Raises:
        DiffIRError: when stdout cannot take it.
    """
    if as_json:
        print_json(found)
    elif not quiet:
        print_message(text)


def print_text(*lines: str) -> None:
    """Lines for people on stdout, if there is one and somebody reads it.

    Raises:
        DiffIRError: when stdout cannot take them.
    """
    if sys.stdout is not None:
        with _writing("to stdout", "check where stdout goes", needed=False):
            typer.echo("\n".join(map(shown, lines)))
            sys.stdout.flush()


def write_stdout(data: bytes | memoryview) -> None:
    """A picture for the next program of a pipe.

    Raises:
        DiffIRError: when stdout cannot take it.
        BrokenPipeError: when nobody reads it any more.
    """
    hint = "redirect it, or name a file with -o"
    with _writing("the picture to standard output", hint):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@contextmanager
def _writing(what: str, hint: str, needed: bool = True) -> Iterator[None]:
    """Word what goes wrong in a block that writes to stdout; a reader may go before all is read."""
    try:
        yield
    except OSError as error:
        # Else Python tries again at its end and prints a traceback.
        sys.stdout = None
        if isinstance(error, BrokenPipeError):
            if needed:
                raise
            return
        raise DiffIRError(f"cannot write {what}: {error.strerror}", hint) from error


@contextmanager
def help_to_stdout() -> Iterator[None]:
    """Word what goes wrong while arguments are read, where only `--help` writes.

    Raises:
        DiffIRError: when stdout cannot take the help.
        BrokenPipeError: when nobody reads it.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        with _writing("the help to stdout", "check where stdout goes"):
            raise error


def take_any_text() -> None:
    """Let stdout replace letters that it lacks, such as those of cp1252, where it would fail."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


class ShownFormatter(logging.Formatter):
    """Lines of a log in which nothing is obeyed by a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line of a record."""
        return shown(super().formatMessage(record))


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Whatever libraries print in the block goes to stderr, by Python or by their own means."""
    try:
        stdout = os.dup(1)
    except OSError:
        # There is none that could be spoilt.
        with redirect_stdout(sys.stderr):
            yield
        return
    try:
        with suppress(OSError):
            os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def set_log_level(quiet: bool, verbose: bool) -> None:
    """Silence warnings, but not errors, or say more, where a user asked for it."""
    if quiet or verbose:
        logging.getLogger().setLevel(logging.ERROR if quiet else logging.INFO)


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True, words: int = 1
) -> None:
    """A table on stdout; numbers, in all columns but the first `words`, are never cut.

    Raises:
        DiffIRError: when stdout cannot take it.
    """
    if sys.stdout is None:
        return
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
        table.add_row(*(Text(shown(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        # Into a pipe or a file: as wide as it likes.
        console.width = 10_000
    with _writing("the table to stdout", "check where stdout goes", needed=False):
        # Rich itself would end the program where nobody reads on.
        with console.capture() as lines:
            console.print(table)
        sys.stdout.write(lines.get())
        sys.stdout.flush()


def on_terminal() -> bool:
    """Whether stderr is a terminal, where something may move."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def working(text: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A spinner while the block runs, where stderr is a terminal and nobody asked for silence.

    Yields:
        A function that shows what is being worked on.
    """
    if quiet or not on_terminal():
        yield lambda _detail: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(shown(text))) as status:
        yield lambda detail: status.update(Text(shown(f"{text} {detail}")))
