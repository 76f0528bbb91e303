"""scripts/check_cuda.sh runs all steps, and says with its exit code how they went."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "check_cuda.sh"

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "timeout", "realpath"))), reason="needs GNU's tools"
)


def run(tmp_path: Path, *, gpu: int = 0, tests: int = 0, deblur: int = 0) -> tuple[int, str]:
    """The exit code and the messages, with a stand-in for Python whose exit codes are given."""
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f'  -c*) test {gpu} = 0 && echo "Some GPU"; exit {gpu} ;;\n'
        f'  "-m pytest"*) echo "tests ran"; exit {tests} ;;\n'
        f"  *deblur-gopro*) exit {deblur} ;;\n"
        "  *) echo '{}' ;;\n"
        "esac\n"
    )
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", SCRIPT, "results"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)},
    )
    return done.returncode, done.stderr


def test_results_of_all_steps_lie_in_the_folder(tmp_path: Path) -> None:
    assert run(tmp_path) == (0, "")
    assert (tmp_path / "results" / "tests.log").read_text() == "tests ran\n"
    assert (tmp_path / "results" / "sr.json").read_text() == "{}\n"


def test_a_failed_step_is_named_and_the_others_are_run(tmp_path: Path) -> None:
    code, messages = run(tmp_path, tests=1, deblur=5)
    assert code == 1
    assert "deblur failed with exit code 5" in messages
    assert "these steps failed: tests deblur\n" in messages
    assert (tmp_path / "results" / "sr.json").exists()


def test_without_a_gpu_nothing_is_run(tmp_path: Path) -> None:
    code, messages = run(tmp_path, gpu=1)
    assert code == 2
    assert messages.startswith("error: there is no NVIDIA GPU that torch can use\n")
    assert not (tmp_path / "results").exists()
