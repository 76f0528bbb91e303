"""Odd names, closed pipes, signals, users without a home, and URLs where files are wanted."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffir_cli.cli.console import ShownFormatter
from diffir_cli.util import folders
from diffir_cli.util.files import unfinished_name
from diffir_cli.util.text import shown
from tests.batch_helpers import lines
from tests.conftest import noise_image, run_cli, succeeded

BYTES = os.fsdecode(b"caf\xe9")
EVIL = "a\x1b[31mred\nb\x1b]0;evil\x07\x9b\x7fc"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
posix = pytest.mark.skipif(os.name == "nt", reason="such names need POSIX")


def _photos(folder: Path, stem: str, side: int = 64) -> Path:
    folder.mkdir()
    try:
        Image.fromarray(noise_image(side, side)).save(folder / f"{stem}.png")
    except OSError:
        pytest.skip("this file system takes no such name")
    return folder


def test_what_a_terminal_obeys_is_escaped_and_everything_else_kept() -> None:
    assert shown("é – 图.png") == "é – 图.png"
    assert shown(BYTES) == r"caf\xe9"
    assert shown("a\x1b[31m\n\u202e\x9b") == r"a\x1b[31m\x0a\u202e\x9b"
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s", (EVIL,), None)
    assert not OBEYED.search(ShownFormatter("%(levelname)s: %(message)s").format(record))


@posix
@pytest.mark.parametrize("kind", ["bicubic", "mask-wide"])
@pytest.mark.parametrize("stem", [BYTES, EVIL])
def test_degrade_takes_any_name(stem: str, kind: str, tmp_path: Path) -> None:
    photos = _photos(tmp_path / "photos", stem)
    succeeded(run_cli("degrade", photos, "-o", tmp_path / "o", "--kind", kind))
    side = 16 if kind == "bicubic" else 64
    assert [path.name for path in (tmp_path / "o").iterdir()] == [f"{stem}.png"]
    assert Image.open(tmp_path / "o" / f"{stem}.png").size == (side, side)


@posix
@pytest.mark.parametrize("stem", [BYTES, EVIL])
def test_restore_and_batch_take_any_name_and_show_none_that_is_obeyed(
    stem: str, batch: Any, s2_file: Path, tmp_path: Path
) -> None:
    photos = _photos(tmp_path / "photos", stem, 8)
    page = tmp_path / f"{stem}.html"
    results = [
        batch(photos, "-o", tmp_path / "o", "--dry-run"),
        batch(photos, "-o", tmp_path / "o", "--report", page),
        batch(photos, "-o", tmp_path / "o", "--name", "{stem}_2"),
        batch(photos, "-o", tmp_path / "o", "--report", page),
        run_cli("restore", photos / f"{stem}.png", "-w", s2_file),
        run_cli("restore", photos / f"{stem}.png", "-w", s2_file),
        run_cli("restore", photos / f"{stem}{stem}.png"),
        run_cli("batch", photos / f"{stem}{stem}.png", "-o", tmp_path / "o"),
        batch(photos / f"{stem}.png", "--in-place"),
        batch(photos / f"{stem}.png", "--in-place"),
    ]
    assert [result.exit_code for result in results] == [0, 0, 0, 0, 0, 3, 3, 3, 0, 0]
    for result in results:
        assert not OBEYED.search(result.output)
    assert "nothing to do" in results[3].stderr and "nothing to do" in results[-1].stderr
    assert Image.open(tmp_path / "o" / f"{stem}.png").size == (32, 32)
    text = page.read_bytes().decode("utf-8")
    assert not OBEYED.search(text)
    done = lines(batch(photos, "-o", tmp_path / "new", "--json"))
    assert done[0]["output"].endswith(f"{stem}.png")


@posix
def test_reports_stay_utf8_whatever_a_name_holds(tmp_path: Path) -> None:
    photos = _photos(tmp_path / "photos", BYTES)
    files = {name: tmp_path / f"r.{name}" for name in ("csv", "markdown", "html")}
    options = [word for name, file in files.items() for word in (f"--{name}", file)]
    succeeded(run_cli("evaluate", photos, photos, *options))
    for file in files.values():
        assert "caf" in file.read_bytes().decode("utf-8")
    found = json.loads(run_cli("evaluate", photos, photos, "--json").stdout)
    assert f"{BYTES}.png" in str(found) or "udce9" in json.dumps(found)


@posix
def test_weights_may_have_any_name(s2_file: Path, tmp_path: Path) -> None:
    photos = _photos(tmp_path / "photos", "a", 8)
    weights = s2_file.rename(s2_file.with_name(f"{BYTES}.safetensors"))
    for ending in ("png", "jpg", "tif"):
        succeeded(
            run_cli("restore", photos / "a.png", "-w", weights, "-o", tmp_path / f"o.{ending}")
        )
    assert run_cli("batch", photos, "-w", weights, "-o", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize("typed", [["--\x1b[31m"], ["\x1b[31m"], ["restore", "--size", "\x1b[31m"]])
def test_usage_errors_show_what_was_typed_without_obeying_it(typed: list[str]) -> None:
    result = run_cli(*typed, *(["x"] if typed[0] == "restore" else []))
    assert result.exit_code == 2
    assert r"\x1b[31m" in result.stderr and not OBEYED.search(result.stderr)


def test_users_without_a_home_get_a_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("DIFFIR_HOME", raising=False)
    for name in ("user_cache_dir", "user_config_dir", "user_state_dir"):
        monkeypatch.setattr(f"platformdirs.{name}", missing)
    for more in ([], ["--json"]):
        result = run_cli("download-weights", "--list", *more)
        assert result.exit_code == 0 and "sr-x4-lite" in result.stdout
    assert len({folders.cache_folder(), folders.config_folder(), folders.state_folder()}) == 3


@pytest.mark.parametrize(
    "arguments", [["download-weights", "--list"], ["--help"], ["restore", "--help"], ["--version"]]
)
@posix
def test_a_reader_that_has_gone_is_no_fault(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "diffir_cli", *arguments]
    found = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert found.returncode in (0, 141)
    assert found.stderr == b""


@posix
@pytest.mark.parametrize("kind", ["SIGTERM", "SIGHUP"])
def test_a_signal_while_a_result_is_written_leaves_nothing_behind(
    kind: str, tmp_path: Path
) -> None:
    program = (
        "import sys, time, diffir_cli.util.files as files\n"
        "from pathlib import Path\n"
        "from diffir_cli.util.signals import end_in_order\n"
        "end_in_order()\n"
        "with files.whole_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half')\n"
        "    time.sleep(600)\n"
    )
    target = tmp_path / "out.png"
    process = subprocess.Popen([sys.executable, "-c", program, target])
    try:
        end = time.monotonic() + 300
        while not list(tmp_path.glob(".diffir-*.part")):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.01)
        process.send_signal(getattr(signal, kind))
        assert process.wait(300) == 128 + getattr(signal, kind)
    finally:
        process.kill()
    assert list(tmp_path.iterdir()) == []


@posix
def test_the_next_restore_removes_what_a_killed_one_left(s2_file: Path, tmp_path: Path) -> None:
    photos = _photos(tmp_path / "photos", "a", 8)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = unfinished_name(photos / "x.png")
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-"))
    other = unfinished_name(photos / "x.png")
    other = other.with_name(other.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
    for path in (left, other):
        path.write_bytes(b"half")
    assert run_cli("restore", photos / "a.png", "-w", s2_file).exit_code == 0
    assert other.exists() and not left.exists()
