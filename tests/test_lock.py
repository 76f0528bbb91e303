"""Locks between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from diffir_cli.util.lock import locked_file

_HOLDER = """
import sys
from pathlib import Path
from diffir_cli.util.lock import locked_file
with locked_file(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def _holder(path: Path) -> subprocess.Popen[bytes]:
    """Another process that has the lock until it reads a line or is killed."""
    arguments = [sys.executable, "-c", _HOLDER, str(path)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"held\n"
    return process


def test_a_lock_that_another_process_has_is_waited_for_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.lock"

    def refuse() -> None:
        raise InterruptedError

    with _holder(path) as other:
        with pytest.raises(InterruptedError), locked_file(path, refuse):
            pytest.fail("the lock was taken twice")
        reports = []

        def release() -> None:
            reports.append("busy")
            assert other.stdin
            other.stdin.write(b"\n")
            other.stdin.flush()

        with locked_file(path, release):
            assert reports == ["busy"]


def test_a_process_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    with _holder(tmp_path / "a.lock") as other:
        other.kill()
    with locked_file(tmp_path / "a.lock", lambda: pytest.fail("it is still held")):
        pass
