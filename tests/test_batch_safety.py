"""`diffir batch` loses no file of the user's, whatever stands where."""

from __future__ import annotations

import errno
import importlib
import os
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffir_cli.imaging import read_picture
from tests.batch_helpers import lines, tree
from tests.conftest import noise_folder, noise_image, run_cli, succeeded

# As something untyped, since its names are replaced here.
run_module: Any = importlib.import_module("diffir_cli.batch.run")
workers_module: Any = importlib.import_module("diffir_cli.batch.workers")


def test_a_shard_sees_the_sources_and_names_of_the_others(batch: Any, tmp_path: Path) -> None:
    names = [f"p{number}{end}.png" for number in range(6) for end in ("", "_x")]
    folder = noise_folder(tmp_path / "in", *names)
    before = tree(folder)
    for part in range(1, 8):
        arguments = ("--name", "{stem}_x", "--shard", f"{part}/7", "--on-exist", "overwrite")
        batch(folder, "-o", folder, *arguments)
    made = tree(folder)
    assert {name: made[name] for name in before} == before
    clash = noise_folder(tmp_path / "clash", "6.jpg", "6.png")
    for half in ("1/2", "2/2"):
        result = batch(clash, "-o", tmp_path / "out", "-f", "png", "--shard", half)
        assert result.exit_code == 3 and "would both become" in result.stderr


def test_results_of_another_folder_are_foreign(album: Path, batch: Any, tmp_path: Path) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    other.mkdir()
    Image.fromarray(noise_image(12, 20, seed=7)).save(other / "a.png")
    for folder in (album, other):
        os.utime(folder / "a.png", (1_000_000_000, 1_000_000_000))
    assert batch(album, "-o", out).exit_code == 0
    before = tree(out)
    result = batch(other, "-o", out)
    assert result.exit_code == 3 and "already exists" in result.stderr
    assert batch(other, "-o", out, "--on-exist", "skip").exit_code == 0
    assert tree(out) == before


def test_a_source_that_broke_since_fails_and_its_result_stays(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert batch(album, "-o", out).exit_code == 0
    before, whole = tree(out), (album / "a.png").read_bytes()
    for broken in (whole[:-100], b""):
        (album / "a.png").write_bytes(broken)
        for _ in range(2):
            result = batch(album, "-o", out)
            assert result.exit_code == 3 and "a.png" in result.stderr
            assert "already exists" not in result.stderr
            assert tree(out) == before
    (album / "a.png").write_bytes(whole)
    assert lines(batch(album, "-o", out, "--json"))[-1]["finished_before"] == 3


def test_results_beside_their_sources_are_no_sources_of_the_next_run(
    album: Path, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(album)
    for command in ((".", "-o", ".", "--name", "{stem}_x4"), ("**/*.*", "-r", "-o", "out")):
        first = succeeded(batch(*command, "--json"))
        again = succeeded(batch(*command, "--json"))
        assert lines(again)[-1]["finished_before"] == lines(first)[-1]["done"] > 0


def test_a_folder_can_be_searched_from_inside_that_of_the_results(
    album: Path, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(album.parent)
    assert batch("album", "-o", ".").exit_code == 0
    assert (album.parent / "a.png").exists()


def test_in_place_keeps_what_would_be_lost(album: Path, batch: Any) -> None:
    pages = [Image.fromarray(noise_image(8, 8, seed=seed)) for seed in range(3)]
    pages[0].save(album / "pages.tif", save_all=True, append_images=pages[1:])
    before = (album / "pages.tif").read_bytes()
    (album / "a.png").chmod(0o600)
    (album / "link.jpg").symlink_to("b.jpg")
    (album / "b.jpg").rename(album / "target.jpg")
    (album / "link.jpg").unlink()
    (album / "link.jpg").symlink_to("target.jpg")
    result = batch(album / "a.png", album / "pages.tif", album / "link.jpg", "--in-place")
    assert result.exit_code == 3 and "has 3 frames" in result.stderr
    assert (album / "pages.tif").read_bytes() == before
    assert (album / "a.png").stat().st_mode & 0o777 == 0o600
    assert (album / "link.jpg").is_symlink()
    assert read_picture(album / "target.jpg").size == (64, 64)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs fifos")
def test_odd_entries_fail_alone(album: Path, batch: Any, tmp_path: Path) -> None:
    os.mkfifo(album / "fifo.png")
    (album / "loop.png").symlink_to("loop.png")
    long = album / ("n" * 250 + ".png")
    Image.fromarray(noise_image(8, 8)).save(long)
    result = batch(album, "-o", tmp_path / "out", "--name", "{stem}_restored", "--json")
    assert result.exit_code == 3, result.output
    *found, summary = lines(result)
    failures = {Path(line["input"]).name for line in found if line["status"] == "failed"}
    assert failures == {"fifo.png", "loop.png", long.name}
    assert summary["done"] == 3


def test_a_folder_that_can_be_listed_but_not_entered_is_left_out(
    album: Path,
    batch: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed = noise_folder(album / "closed", "c.png")
    monkeypatch.setattr("diffir_cli.batch.find.may_enter", lambda folder: folder != closed)
    result = batch(album, "-r", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert f"{closed} is left out: Permission denied" in caplog.text
    assert "a.png" in tree(tmp_path / "out") and "closed/c.png" not in tree(tmp_path / "out")


def test_masks_and_pictures_are_never_taken_for_results(
    album: Path, inpaint_file: Path, batch: Any, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    hole = np.zeros((12, 20), np.uint8)
    hole[2:5, 2:5] = 255
    Image.fromarray(hole).save(masks / "a.png")
    before = tree(masks)
    arguments = (
        "--task",
        "inpaint",
        "-w",
        inpaint_file,
        "--mask",
        masks,
        "--on-exist",
        "overwrite",
    )
    result = run_cli("batch", album / "a.png", "-o", masks, *arguments)
    assert result.exit_code == 3 and "a source or a mask" in result.stderr
    assert tree(masks) == before
    wrong = batch(album, "-o", tmp_path / "out", "--report", album / "a.png")
    assert wrong.exit_code == 3 and "must end in .html" in wrong.stderr


def test_a_mask_of_the_same_tree_goes_before_one_of_the_same_name(
    inpaint_file: Path, tmp_path: Path
) -> None:
    holes: dict[str, Any] = {}
    for place, side in (("x", 3), ("y", 9)):
        for folder in ("photos", "masks"):
            (tmp_path / folder / place).mkdir(parents=True)
        Image.fromarray(noise_image(16, 16)).save(tmp_path / "photos" / place / "1.png")
        hole = np.zeros((16, 16), np.uint8)
        hole[:side, :side] = 255
        Image.fromarray(hole).save(tmp_path / "masks" / place / "1.png")
        holes[place] = hole > 0
    arguments = ("--task", "inpaint", "-w", inpaint_file, "--mask", tmp_path / "masks", "-r")
    assert run_cli("batch", tmp_path / "photos", "-o", tmp_path / "out", *arguments).exit_code == 0
    for place, marked in holes.items():
        changed = (read_picture(tmp_path / "out" / place / "1.png").rgb != noise_image(16, 16)).any(
            axis=2
        )
        assert changed.any() and not (changed & ~marked).any()


def test_shards_and_an_undivided_run_exclude_each_other(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    from diffir_cli.batch.lock import locked

    out = tmp_path / "out"
    out.mkdir()
    with locked(out, "1-of-2"):
        assert "another run is writing" in batch(album, "-o", out).stderr
        assert batch(album, "-o", out, "--shard", "2/2").exit_code == 0
    with locked(out):
        assert "another run is writing" in batch(album, "-o", out, "--shard", "1/2").stderr


@pytest.mark.usefixtures("forked_workers")
def test_a_worker_that_cannot_begin_leaves_its_work_to_the_others(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    succeeded(batch(album, "-r", "-o", tmp_path / "out", "-d", "cpu,cuda:99", "--threads", 1))
    assert len(tree(tmp_path / "out")) == 4
    alone = batch(album, "-o", tmp_path / "other", "-d", "cpu,cuda:98")
    assert alone.exit_code in (0, 5)


def _dying(*_arguments: object) -> None:
    """A worker process that is killed before it has its network."""
    os._exit(9)


def _without_memory(*arguments: Any) -> None:
    """A worker process whose GPU is full."""

    def runner(_work: object) -> Any:
        raise RuntimeError("CUDA out of memory")

    workers_module.Work.runner = runner
    workers_module._work(*arguments)


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("way", "wording"),
    [
        ("raises", "cannot load"),
        ("dies", "it ended while it loaded the network"),
        ("is not started", "Resource temporarily unavailable"),
    ],
)
def test_workers_that_cannot_begin_end_the_run_with_one_error(
    way: str,
    wording: str,
    album: Path,
    batch: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, begin = [], BaseProcess.start

    def start(process: Any) -> None:
        started.append(process)
        if way == "is not started":
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        begin(process)

    monkeypatch.setattr(BaseProcess, "start", start)
    monkeypatch.setattr(workers_module, "_work", _dying if way == "dies" else _without_memory)
    result = batch(album, "-o", tmp_path / "out", "--workers", 2)
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == 1 and wording in result.stderr
    assert 0 < len(started) <= 6
    assert tree(tmp_path / "out") == {}


def test_a_short_write_of_the_journal_is_an_error_and_tears_one_line_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal: Any = importlib.import_module("diffir_cli.batch.journal")
    path, write = tmp_path / ".diffir-journal.jsonl", os.write
    journal.append(path, journal.Record("a", "a", output_sha256="1"))
    monkeypatch.setattr(journal.os, "write", lambda to, data: write(to, data[: len(data) // 2]))
    with pytest.raises(OSError, match="No space"):
        journal.append(path, journal.Record("b", "b", output_sha256="2"))
    monkeypatch.setattr(journal.os, "write", write)
    journal.append(path, journal.Record("c", "c", output_sha256="3"))
    assert set(journal.Journal(tmp_path).records) == {"a", "c"}


def test_masks_that_are_not_there_are_refused_at_once(
    album: Path, inpaint_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--task", "inpaint", "-w", inpaint_file, "--mask", tmp_path / "nope")
    for more in ((), ("--dry-run",)):
        result = run_cli("batch", album, "-o", out, *arguments, *more)
        assert result.exit_code == 3 and "no such file or folder" in result.stderr
        assert not list(out.glob("*.png"))


def test_a_report_of_a_run_that_had_nothing_to_do_replaces_none(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    arguments = (album, "-o", tmp_path / "out", "--report", page)
    assert batch(*arguments).exit_code == 0
    before = page.read_bytes()
    again = succeeded(batch(*arguments))
    assert page.read_bytes() == before
    assert "stays as it was" in again.stderr


def test_a_plan_says_what_it_would_replace(album: Path, batch: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    result = batch(album, "-o", tmp_path / "out", "--dry-run", "--json", "--on-exist", "overwrite")
    wording = {Path(line["output"]).name: line for line in lines(result) if "output" in line}
    assert wording["a.png"]["state"] == "replaces"
    assert wording["b.jpg"]["state"] == "new"
