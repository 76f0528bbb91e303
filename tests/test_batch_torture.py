"""`diffir batch` under whatever can happen to a long run: killed, stopped, without space."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from diffir_cli.batch.journal import Record, append
from tests.batch_helpers import tree
from tests.conftest import noise_folder, noise_image, run_cli
from tests.processes import exit_code, start_command

# As something untyped, since its names are replaced here.
run_module: Any = importlib.import_module("diffir_cli.batch.run")

KILLS = int(os.environ.get("DIFFIR_TORTURE_KILLS", "6"))
"""30 is a long torture; few are enough to notice when something breaks."""
PICTURES = 40
LONG_RUN = int(os.environ.get("DIFFIR_TORTURE_PICTURES", "160"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def crowd(tmp_path: Path) -> Path:
    folder = tmp_path / "crowd"
    (folder / "below").mkdir(parents=True)
    for number in range(PICTURES):
        place = folder / "below" if number % 3 == 0 else folder
        Image.fromarray(noise_image(24, 24 + number % 5, seed=number)).save(
            place / f"{number:02}.png"
        )
    return folder


def _forked(*arguments: object, user: int = 0) -> int:
    """A child that has torch loaded already and runs a command, as another user; its process."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        from diffir_cli.cli import app

        # A parallel region would wait for threads of libgomp, which a fork does not copy.
        torch.set_num_threads(1)
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        os.setsid()
        if user:
            os.setuid(user)
        app([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 98
    finally:
        os._exit(code)


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _until(reached: Callable[[], bool], child: int) -> None:
    """Wait for something that a child does before it ends."""
    while not reached():
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended before"
        time.sleep(0.001)


@pytest.fixture
def command(crowd: Path, s2_file: Path) -> Callable[[Path], tuple[Any, ...]]:
    options = ("-w", s2_file, "-d", "cpu", "--threads", 1, "-q")
    return lambda out: ("batch", crowd, "-r", "-o", out, *options)


def _finished(out: Path) -> int:
    """How many results there are."""
    return sum(1 for _ in out.rglob("*.png"))


def _whole(out: Path, expected: dict[str, bytes]) -> None:
    """Whatever is there under its name is whole."""
    for name, data in tree(out).items():
        assert data == expected[name], f"{name} is only a part"


def test_killed_at_any_moment_and_resumed_the_folder_is_that_of_an_undisturbed_run(
    command: Callable[[Path], tuple[Any, ...]], tmp_path: Path
) -> None:
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    assert _wait(_forked(*command(undisturbed))) == 0
    expected = tree(undisturbed)
    assert len(expected) == PICTURES
    rng = random.Random(0)
    done = 0
    for number in range(KILLS):
        child = _forked(*command(out))
        # A moment at which some more are done, anywhere in the work on one of them.
        goal = done + rng.randint(0, max(1, 2 * PICTURES // KILLS - 2))
        deadline = time.monotonic() + 120
        while _finished(out) < min(goal, PICTURES - 1) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        _wait(child)
        _whole(out, expected)
        done = len(tree(out))
        assert done > 0 or number < KILLS - 1
    assert _wait(_forked(*command(out))) == 0
    assert tree(out) == expected
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize(("kind", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_a_signal_ends_with_130_and_nothing_partial(
    kind: signal.Signals, times: int, command: Callable[[Path], tuple[Any, ...]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    child = _forked(*command(out))
    _until(lambda: _finished(out) >= 3, child)
    for _ in range(times):
        os.kill(child, kind)
        time.sleep(0.002)
    assert _wait(child) == 130
    made = tree(out)
    assert 3 <= len(made) < PICTURES
    assert not list(out.rglob("*.part"))
    assert _wait(_forked(*command(out))) == 0
    assert len(tree(out)) == PICTURES
    assert all(tree(out)[name] == data for name, data in made.items())


@pytest.mark.parametrize("times", [1, 2])
def test_the_first_signal_finishes_the_picture_in_work_and_the_second_does_not(
    times: int, s2_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = noise_folder(tmp_path / "album", "a.png", "b.png"), tmp_path / "out"
    begun, signalled = tmp_path / "begun", tmp_path / "signalled"
    real = run_module.compute

    def compute(job: Any, *rest: Any) -> Any:
        if job.output == "b.png":
            begun.touch()
            while not signalled.exists():
                time.sleep(0.001)
        return real(job, *rest)

    monkeypatch.setattr(run_module, "compute", compute)
    child = _forked("batch", folder, "-o", out, "-w", s2_file, "-d", "cpu", "--threads", 1, "-q")
    _until(lambda: begun.exists() and bool(tree(out)), child)
    for number in range(times):
        if number:
            # A signal that another one follows at once is not seen.
            _until(lambda: not _status(child, "ShdPnd").strip("0"), child)
            time.sleep(0.1)
        os.kill(child, signal.SIGINT)
    signalled.touch()
    assert _wait(child) == (0 if times == 1 else 130)
    assert set(tree(out)) == ({"a.png", "b.png"} if times == 1 else {"a.png"})
    assert not list(out.rglob("*.part"))


def test_a_file_that_may_not_be_read_fails_alone(s2_file: Path) -> None:
    # Not in pytest's own folder, into which only its user may look.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        for number in range(3):
            Image.fromarray(noise_image(8, 8, seed=number)).save(folder / f"{number}.png")
        (folder / "1.png").chmod(0)
        weights = Path(shutil.copy(s2_file, folder))
        options = ("-w", weights, "-d", "cpu", "--json", "-q")
        # Another user may not be able to import what is not imported yet.
        assert run_cli("batch", folder / "0.png", "-o", folder / "warm", *options).exit_code == 0
        nobody = 0 if os.getuid() else 65534
        child = _forked("batch", folder, "-o", folder / "out", *options, user=nobody)
        assert _wait(child) == 3
        assert set(tree(folder / "out")) == {"0.png", "2.png"}
        journal = (folder / "out" / ".diffir-journal.jsonl").read_text(encoding="utf-8")
        assert f"no permission to read {folder / '1.png'}" in journal


def test_workers_that_are_killed_are_replaced_and_their_pictures_done(
    crowd: Path, s2_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = _with_two_workers(crowd, s2_file, out)
    workers = _workers_behind_five_pictures(run, out)
    # Both, since the other one may not have its network yet, and then costs no picture.
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    assert exit_code(run) == 0
    assert len(tree(out)) == PICTURES
    assert "crashed" in out.with_name("stderr").read_text(encoding="utf-8")


def test_a_killed_run_with_workers_leaves_no_orphan_and_goes_on(
    crowd: Path, command: Callable[[Path], tuple[Any, ...]], s2_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = _with_two_workers(crowd, s2_file, out)
    workers = _workers_behind_five_pictures(run, out)
    run.kill()
    exit_code(run)
    deadline = time.monotonic() + 120
    while any(Path(f"/proc/{worker}/task").exists() for worker in workers):
        assert time.monotonic() < deadline, "an orphan goes on"
        time.sleep(0.05)
    # How many processes there are has no part in what is left to do.
    assert _wait(_forked(*command(out))) == 0
    assert len(tree(out)) == PICTURES
    assert not list(out.rglob("*.part"))


def _with_two_workers(crowd: Path, weights: Path, out: Path) -> BaseProcess:
    options = ("-w", weights, "-d", "cpu", "--threads", 1, "--workers", 2)
    command = ("batch", crowd, "-r", "-o", out, *options)
    return start_command(*command, stdout=Path(os.devnull), stderr=out.with_name("stderr"))


def _workers_behind_five_pictures(run: BaseProcess, out: Path) -> list[int]:
    while _finished(out) < 5 and run.is_alive():
        time.sleep(0.005)
    assert run.pid
    workers = [child for child in _children(run.pid) if "spawn_main" in _command(child)]
    assert workers, out.with_name("stderr").read_text(encoding="utf-8")
    return workers


def _children(process: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        if int(text.rsplit(")", 1)[1].split()[1]) == process:
            yield int(entry.parent.name)


def _command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_a_small_full_disk_leaves_nothing_corrupt(
    command: Callable[[Path], tuple[Any, ...]], tmp_path: Path
) -> None:
    out, undisturbed = tmp_path / "disk", tmp_path / "undisturbed"
    out.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", out], capture_output=True
    ).returncode:
        pytest.skip("may not mount a file system")
    try:
        assert _wait(_forked(*command(undisturbed))) == 0
        expected = tree(undisturbed)
        assert _wait(_forked(*command(out))) == 3
        assert 0 < len(tree(out)) < PICTURES
        _whole(out, expected)
        assert not list(out.rglob("*.part"))
        subprocess.run(["mount", "-o", "remount,size=20m", out], check=True)
        assert _wait(_forked(*command(out))) == 0
        assert tree(out) == expected
    finally:
        subprocess.run(["umount", "-l", out], check=True)


@pytest.mark.xdist_group("measurements")
def test_memory_stays_flat_over_many_pictures(s2_file: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "many", tmp_path / "out"
    folder.mkdir()
    for number in range(LONG_RUN):
        Image.fromarray(noise_image(48, 64, seed=number)).save(folder / f"{number:03}.png")
    options = ("-w", s2_file, "-d", "cpu", "--threads", 1, "-q")
    child = _forked("batch", folder, "-o", out, *options)
    early, late = 0, 0
    while True:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            break
        count = len(list(out.glob("*.png"))) if out.exists() else 0
        resident = _resident(child)
        if count <= 50:
            early = max(early, resident)
        else:
            late = max(late, resident)
        time.sleep(0.02)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(tree(out)) == LONG_RUN
    # A result of 192×256 pixels that is not let go of takes 0.6 MB: 65 MB over the run. An
    # allocator that keeps a block more is no leak.
    assert 0 < late <= 1.05 * early + 16 * 2**10


def _resident(process: int) -> int:
    return int(_status(process, "VmRSS") or 0)


def _status(process: int, field: str) -> str:
    """What Linux says of a process; nothing where it has ended, or elsewhere."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return ""
    return next((line.split()[1] for line in lines if line.startswith(field)), "")


def test_a_journal_line_without_its_result_counts_for_nothing(
    command: Callable[[Path], tuple[Any, ...]], tmp_path: Path
) -> None:
    """As after a stop between the line and the rename."""
    out = tmp_path / "out"
    out.mkdir()
    append(out / ".diffir-journal.jsonl", Record("00.png", "below/00.png", output_sha256="0" * 64))
    assert _wait(_forked(*command(out))) == 0
    assert len(tree(out)) == PICTURES
