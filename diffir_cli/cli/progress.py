"""How far a run is: two lines that move on a terminal, a line for each picture elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffir_cli.cli.console import on_terminal, print_message
from diffir_cli.util.text import shown


class Progress:
    """Lines for people, without anything that moves."""

    share: Callable[[float], None] | None = None
    """Called with the share of the current picture that is done; None where there is no bar."""

    def current(self, name: str) -> None:
        """A picture enters the network."""

    def advance(self, pixels: int) -> None:
        """A picture of so many LQ pixels is done."""

    def note(self, text: str) -> None:
        """What became of a picture; a terminal shows the bar instead."""
        self.line(text)

    def line(self, text: str) -> None:
        """Something that must stay to be read."""
        print_message(text)


class _Bar(Progress):
    """All pictures on one line, with the time left by pixels; the current one below."""

    def __init__(self, bar: Any, all_of_them: Any, this_one: Any, count: int) -> None:
        self.bar, self.all_of_them, self.this_one = bar, all_of_them, this_one
        self.count, self.done = count, 0
        self.share = _shown(bar, this_one)

    def current(self, name: str) -> None:
        self.bar.reset(self.this_one, total=None, description=_plain(name))

    def advance(self, pixels: int) -> None:
        self.done += 1
        text = f"{self.done} of {self.count} pictures"
        # A picture whose size nobody could tell still counts.
        self.bar.update(self.all_of_them, advance=max(pixels, 1), description=text)

    def note(self, text: str) -> None:
        pass

    def line(self, text: str) -> None:
        self.bar.console.print(_plain(text), highlight=False, soft_wrap=True)


def _shown(bar: Any, task: Any) -> Callable[[float], None]:
    """What shows a share of 1 in a line of a bar, which never goes back."""

    def show(share: float) -> None:
        done = next(one.completed for one in bar.tasks if one.id == task)
        bar.update(task, total=1, completed=max(share, done))

    return show


@contextmanager
def restoring(text: str, quiet: bool) -> Iterator[Callable[[float], None] | None]:
    """A bar with the time left while the block runs, where stderr is a terminal.

    Yields:
        A function to call with the share of the work that is done, 0 to 1; None without a bar.
    """
    if quiet or not on_terminal():
        yield None
        return
    from rich.progress import SpinnerColumn

    with _bar(SpinnerColumn(), *_columns(), transient=True) as bar:
        yield _shown(bar, bar.add_task(_plain(text), total=None))


def _bar(*columns: Any, transient: bool = False) -> Any:
    """A bar on stderr, still to be started; of Rich, which takes long to import."""
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    return RichProgress(*columns, console=Console(stderr=True), transient=transient)


def _columns() -> tuple[Any, ...]:
    """What is done, a bar, the share that is done, and the time left or, at the end, taken."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(shown(text))


@contextmanager
def downloading(name: str, plain: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar for a download, where stderr is a terminal.

    Yields:
        A function to call with the bytes received so far, and those of the whole file or 0.
    """
    if plain or not on_terminal():
        yield lambda _here, _whole: None
        return
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = _bar(*columns, TimeRemainingColumn())
    task = bar.add_task(_plain(name), total=None)

    def advance(here: int, whole: int) -> None:
        # Not before: nobody can answer a question behind something that moves.
        bar.start()
        bar.update(task, completed=here, total=whole or None)

    try:
        yield advance
    finally:
        bar.stop()


@contextmanager
def make_progress(count: int, pixels: int, plain: bool) -> Iterator[Progress]:
    """Progress over so many pictures with so many LQ pixels together.

    Args:
        count: Pictures.
        pixels: Of all of them.
        plain: Whether nothing may move even on a terminal.
    """
    if plain or not on_terminal():
        yield Progress()
        return
    with _bar(*_columns()) as bar:
        all_of_them = bar.add_task(f"0 of {count} pictures", total=max(pixels, count, 1))
        this_one = bar.add_task("", total=None)
        yield _Bar(bar, all_of_them, this_one, count)
