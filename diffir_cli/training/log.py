"""The curves of a run: a CSV file that grows, and a picture of it."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffir_cli.errors import InputError
from diffir_cli.util.files import whole_file

_COLUMNS = ("iteration", "minutes", "loss", "lr", "psnr")
_log = logging.getLogger(__name__)


class TrainingLog:
    """`log.csv` and `curves.png` in the folder of a run.

    Args:
        folder: The folder of the run.
        iteration: Where the run stands; later rows, from behind the saved state, are dropped.
        active: Whether this process writes; the others of a parallel run do not.

    Raises:
        InputError: when a file cannot be read or written, here and in every method.
    """

    def __init__(self, folder: Path, iteration: int, active: bool = True) -> None:
        self.path, self.active = folder / "log.csv", active
        if not active:
            return
        rows = [row for row in read_log(self.path) if int(row["iteration"]) <= iteration]
        temporary = self.path.with_suffix(".part")
        with _write_errors(self.path):
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)
            temporary.replace(self.path)

    def add(
        self, iteration: int, minutes: float, loss: float, rate: float, psnr: float | None
    ) -> None:
        """Append a row; the picture follows whenever there is a PSNR."""
        if not self.active:
            return
        score = "" if psnr is None else f"{psnr:.4f}"
        with _write_errors(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            row = (iteration, f"{minutes:.3f}", f"{loss:.6f}", f"{rate:.3e}", score)
            csv.writer(file).writerow(row)
        if psnr is not None:
            self._draw()

    def note(self, text: str) -> None:
        """Append a line to `events.txt`: what happened besides learning."""
        if self.active:
            events = self.path.with_name("events.txt")
            with _write_errors(events), events.open("a", encoding="utf-8") as file:
                file.write(f"{text}\n")

    def close(self) -> None:
        """Draw the curves for the last time, or say why there are none."""
        if self.active and not self._draw():
            _log.warning("no curves.png without matplotlib: pip install matplotlib")

    def _draw(self) -> bool:
        return draw_curves(self.path, self.path.with_name("curves.png"))


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a log that are whole; none where there is no log.

    Raises:
        InputError: when it cannot be read.
    """
    if not path.exists():
        return []
    with _write_errors(path), path.open(newline="", encoding="utf-8", errors="replace") as file:
        return [row for row in csv.DictReader(file) if _is_whole(row)]


def _is_whole(row: dict[str, str]) -> bool:
    """Whether a row has all its numbers: a run may have been killed in the middle of one."""
    try:
        int(row["iteration"])
        for name in _COLUMNS[1:]:
            float(row[name] or (0 if name == "psnr" else ""))
    except (KeyError, TypeError, ValueError):
        return False
    return None not in row  # Under which more values than the header has would stand.


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Errors of the file system as one line that says what could not be done."""
    try:
        yield
    except (OSError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot keep the log {path}: {why}",
            "free some space, or name another folder with --output",
        ) from error


def draw_curves(log: Path, picture: Path) -> bool:
    """Loss and PSNR over iterations as a PNG; False where matplotlib is missing.

    Raises:
        InputError: when the log cannot be read or the picture not be written.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        return False
    rows = read_log(log)
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot(left, rows, "loss")
    left.set_yscale("log")
    _plot(right, rows, "psnr")
    right.set_ylabel("validation PSNR (dB)")
    with _write_errors(picture), whole_file(picture) as file:
        figure.savefig(file, format="png", dpi=100)
    return True


def _plot(axes: object, rows: list[dict[str, str]], column: str) -> None:
    points = [
        (int(row["iteration"]), float(row[column]))
        for row in rows
        if row[column] not in ("", "nan")
    ]
    marker = "o" if len(points) == 1 else ""
    axes.plot(  # type: ignore[attr-defined]
        [x for x, _ in points], [y for _, y in points], marker=marker
    )
    axes.set_xlabel("iteration")  # type: ignore[attr-defined]
    axes.set_ylabel(column)  # type: ignore[attr-defined]
