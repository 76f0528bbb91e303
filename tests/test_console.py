"""What the command line says reaches a stdout of any kind, or fails in one line."""

from __future__ import annotations

import io
import sys
from functools import partial
from typing import Any

import pytest

from diffir_cli.cli.console import print_json, print_table, print_text, take_any_text
from diffir_cli.errors import DiffIRError


class _Full(io.RawIOBase):
    """A device without room."""

    room = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        return len(data)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_letters_that_stdout_lacks_are_replaced(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    take_any_text()
    print_text("8×8")
    print_table(["seconds ∝ pixels^"], [["1.00"]])
    wording = written.getvalue().decode(encoding, "replace")
    # Typer takes UTF-8 for lines where there is only ASCII.
    assert "seconds ? pixels^" in wording and "1.00" in wording


def test_a_stdout_without_room_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    printers = (partial(print_table, ["a"], [["b"]]), partial(print_text, "a"))
    for notify in (*printers, partial(print_json, {})):
        full = _Full()
        stdout = io.TextIOWrapper(io.BufferedWriter(full), encoding="utf-8")
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(DiffIRError, match="to stdout: No space left on device") as caught:
            notify()
        assert caught.value.hint == "check where stdout goes"
        assert sys.stdout is None
        # Else it fails again when it is closed.
        full.room = True


def test_no_stdout_is_no_fault_of_text_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    print_table(["a"], [["b"]])
    print_text("a")
