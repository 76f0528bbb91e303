"""`diffir batch`: the results of `restore`, a plan before the work, nothing lost, nothing twice."""

from __future__ import annotations

import importlib
import threading
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffir_cli.errors import InputError
from diffir_cli.imaging import read_picture
from tests.batch_helpers import lines, tree
from tests.conftest import noise_folder, noise_image, run_cli, succeeded

# As something untyped, since its names are replaced here.
run_module: Any = importlib.import_module("diffir_cli.batch.run")


def test_each_result_has_the_bytes_of_restore(
    album: Path, batch: Any, s2_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    succeeded(batch(album, "-r", "-o", out, "--seed", 3))
    made = tree(out)
    assert set(made) == {"a.png", "b.jpg", "c.webp", "below/a.png"}
    for name, data in made.items():
        alone = tmp_path / f"alone{Path(name).suffix}"
        command = ("restore", album / name, "-w", s2_file, "-o", alone, "--seed", 3, "--overwrite")
        assert run_cli(*command).exit_code == 0
        assert data == alone.read_bytes(), name


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("extra", [["--workers", 2], ["-j", 1], ["--device", "cpu,cpu"]])
def test_processes_and_threads_change_no_byte(
    extra: list[Any], album: Path, batch: Any, tmp_path: Path
) -> None:
    assert batch(album, "-r", "-o", tmp_path / "one").exit_code == 0
    succeeded(batch(album, "-r", "-o", tmp_path / "other", "--threads", 1, *extra))
    assert tree(tmp_path / "other") == tree(tmp_path / "one")


def test_files_patterns_and_suffixes_are_taken_and_folders_below_left_alone(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    assert batch(album, "-o", tmp_path / "out", "--suffix", "_x4{}").exit_code == 0
    assert set(tree(tmp_path / "out")) == {"a_x4{}.png", "b_x4{}.jpg", "c_x4{}.webp"}
    succeeded(batch(album / "*.p*g", album / "b.jpg", "-o", tmp_path / "more"))
    assert set(tree(tmp_path / "more")) == {"a.png", "b.jpg"}


def test_hidden_system_and_other_files_are_no_pictures(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    for name in ("._a.png", ".hidden.png", "Thumbs.db", "desktop.ini", "notes.txt"):
        (album / name).write_bytes(b"no picture")
    (album / "b.jpg").rename(album / "content decides")
    succeeded(batch(album, "-o", tmp_path / "out"))
    assert set(tree(tmp_path / "out")) == {"a.png", "c.webp", "content decides.jpg"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{stem}_{task}x{scale}", "below/a_realsrx4.png"),
        ("{ext}/{weights}-{stem}", "below/png/tiny-a.png"),
        ("{reldir}-{stem}", "below-a.png"),
        ("{{{stem}}}", "below/{a}.png"),
        ("{parent}-{stem}", "below/below-a.png"),
        ("{index:03}", "002.jpg"),
    ],
)
def test_names_follow_the_template(
    template: str, expected: str, album: Path, batch: Any, tmp_path: Path
) -> None:
    arguments = (album, "-r", "-o", tmp_path / "out", "--name", template)
    succeeded(batch(*arguments))
    assert expected in tree(tmp_path / "out")
    assert "nothing to do" in batch(*arguments).stderr


def test_a_name_is_not_cut_at_its_first_dot(batch: Any, tmp_path: Path) -> None:
    folder = noise_folder(tmp_path / "in", "scan.01.png", "scan.02.PNG")
    assert batch(folder, "-o", tmp_path / "out").exit_code == 0
    assert set(tree(tmp_path / "out")) == {"scan.01.png", "scan.02.png"}


@pytest.mark.parametrize(
    ("names", "extra"),
    [
        (("a.jpg", "a.webp"), ["-f", "png"]),
        (("A.png", "a.png"), []),
        ((unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")), []),
    ],
)
def test_two_sources_of_one_result_are_refused_with_both_named(
    names: tuple[str, str], extra: list[str], batch: Any, tmp_path: Path
) -> None:
    folder = noise_folder(tmp_path / "in", *names)
    result = batch(folder, "-o", tmp_path / "out", *extra)
    assert result.exit_code == 3
    assert all(name in result.stderr for name in names) and "would both become" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_refused_batch_leaves_a_folder_as_it_was(album: Path, batch: Any, tmp_path: Path) -> None:
    """An empty folder stays and no lock does; missing folders above it are missing again."""
    out = tmp_path / "out"
    out.mkdir()
    result = batch(album, album / "below", "-o", out)
    assert result.exit_code == 3 and "would both become" in result.stderr
    assert list(out.iterdir()) == []
    assert batch(album, album / "below", "-o", tmp_path / "new" / "out").exit_code == 3
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["../{stem}", "{stem}/.."])
def test_a_template_that_leads_out_of_the_folder_is_refused(
    name: str, album: Path, batch: Any, tmp_path: Path
) -> None:
    result = batch(album, "-o", tmp_path / "out", "--name", name)
    assert result.exit_code == 2 and "--name" in result.stderr
    assert tree(tmp_path / "out") == {}


def test_a_source_is_never_replaced_but_in_place(album: Path, batch: Any) -> None:
    before = tree(album)
    result = batch(album, "-o", album)
    assert result.exit_code == 3 and "would replace a source" in result.stderr
    assert tree(album) == before
    succeeded(batch(album, "--in-place"))
    assert read_picture(album / "a.png").size == (80, 48)
    made = tree(album)
    # Once restored it is not restored again.
    assert batch(album, "--in-place").exit_code == 0
    assert tree(album) == made


def test_nothing_to_do_is_one_error(batch: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("empty", "absent"):
        result = batch(tmp_path / source, "-o", tmp_path / "out")
        assert result.exit_code == 3 and "hint: " in result.stderr


def test_a_dry_run_tells_everything_and_writes_nothing(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    (album / "bad.png").write_bytes(b"no picture")
    before = set(tmp_path.rglob("*"))
    table = batch(album, "-r", "-o", tmp_path / "out", "--dry-run")
    assert table.exit_code == 0 and "not a supported image" in table.stdout
    assert "4 pictures to restore" in table.stderr and "free" in table.stderr
    *planned, summary = lines(batch(album, "-r", "-o", tmp_path / "out", "--dry-run", "--json"))
    assert [line["state"] for line in planned].count("new") == 4
    assert summary["to_do"] == 4 and summary["will_fail"] == 1
    assert summary["pixels"] == 12 * 20 + 16 * 16 + 9 * 13 + 8 * 8
    assert summary["estimated_seconds"] > 0 and summary["free_bytes"] > 0
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "pixels"),
    [
        ([], 80 * 48),
        (["--outscale", 2], 40 * 24),
        (["--long-side", 10], 10 * 6),
        (["--size", "x12"], 20 * 12),
    ],
)
def test_a_dry_run_estimates_the_size_that_was_asked_for(
    options: list[Any], pixels: int, album: Path, batch: Any, tmp_path: Path
) -> None:
    result = batch(album / "a.png", "-o", tmp_path / "out", "--dry-run", "--json", *options)
    assert lines(result)[-1]["estimated_bytes"] == 2 * pixels


def test_what_a_format_cannot_hold_is_known_before_and_fails_alone(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    *planned, _ = lines(batch(album, "-o", out, "-f", "jpg", "--dry-run", "--json"))
    assert sum("transparency" in line["error"] for line in planned) == 1
    result = batch(album, "-o", out, "-f", "jpg")
    assert result.exit_code == 3
    assert set(tree(out)) == {"a.jpg", "b.jpg"}
    assert batch(album, "-o", out, "-f", "jpg", "--background", "white").exit_code == 0
    assert set(tree(out)) == {"a.jpg", "b.jpg", "c.jpg"}


def test_fail_fast_stops_at_the_first_failure(album: Path, batch: Any, tmp_path: Path) -> None:
    (album / "0.png").write_bytes(b"no picture")
    result = batch(album, "-o", tmp_path / "out", "--fail-fast", "--json")
    assert result.exit_code == 3
    assert lines(result)[-1]["not_begun"] == 3
    assert tree(tmp_path / "out") == {}


def test_shards_share_the_work_without_overlap(album: Path, batch: Any, tmp_path: Path) -> None:
    for number in range(20):
        Image.fromarray(noise_image(8, 8, seed=number)).save(album / f"{number}.png")
    out, whole = tmp_path / "out", tmp_path / "whole"
    counts = []
    for part in ("1/3", "2/3", "3/3"):
        result = succeeded(batch(album, "-r", "-o", out, "--shard", part, "--json"))
        counts.append(lines(result)[-1]["done"])
    assert sum(counts) == 24 and min(counts) > 0
    assert batch(album, "-r", "-o", whole).exit_code == 0
    assert tree(out) == tree(whole)
    # An undivided run knows what the shards have done.
    assert lines(batch(album, "-r", "-o", out, "--json"))[-1]["finished_before"] == 24


def test_masks_are_found_by_name_and_a_missing_one_fails_alone(
    inpaint_file: Path, tmp_path: Path
) -> None:
    photos, masks, out = (tmp_path / name for name in ("photos", "masks", "out"))
    photos.mkdir()
    masks.mkdir()
    hole = np.zeros((16, 16), np.uint8)
    hole[4:8, 4:8] = 255
    for name in ("a", "b", "c"):
        Image.fromarray(noise_image(16, 16)).save(photos / f"{name}.png")
    Image.fromarray(hole).save(masks / "a.png")
    Image.fromarray(hole).save(masks / "b_mask.png")
    command = ("batch", photos, "-o", out, "--task", "inpaint", "-w", inpaint_file, "--mask", masks)
    result = run_cli(*command)
    assert result.exit_code == 3
    assert "c.png has no mask in" in result.stderr
    assert set(tree(out)) == {"a.png", "b.png"}
    hole[8:12, 8:12] = 255
    Image.fromarray(hole).save(masks / "a.png")
    assert "a.png is made again: the mask has changed" in run_cli(*command).stderr


def test_broken_files_are_named_and_the_others_done(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    good = len(list(album.glob("*.*")))
    (album / "truncated.png").write_bytes((album / "a.png").read_bytes()[:-200])
    (album / "empty.jpg").write_bytes(b"")
    (album / "text.png").write_text("no picture", encoding="utf-8")
    (album / "dangling.png").symlink_to("nowhere.png")
    Image.new("1", (14_000, 13_000)).save(album / "bomb.png")
    bad = {"truncated.png", "empty.jpg", "text.png", "dangling.png", "bomb.png"}
    result = batch(album, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 3
    *found, summary = lines(result)
    failures = {Path(line["input"]).name for line in found if line["status"] == "failed"}
    assert failures == bad
    assert all(line["error"] for line in found if line["status"] == "failed")
    assert {Path(line["output"]).name for line in found if line["status"] == "done"} == {
        "a.png",
        "b.jpg",
        "c.webp",
    }
    counts = (summary["done"], summary["failed"], summary["interrupted"])
    assert counts == (good, len(bad), False) and len(tree(tmp_path / "out")) == good
    shown = batch(album, "-o", tmp_path / "out").stderr.splitlines()
    hints = {line["hint"] for line in found if line["status"] == "failed"}
    assert all(hints) and {line[6:] for line in shown if line.startswith("hint: ")} == hints


@pytest.mark.parametrize("step", ["compute", "save"])
@pytest.mark.parametrize("error", [RuntimeError("something nobody thought of"), MemoryError()])
def test_an_unexpected_error_of_one_picture_does_not_stop_the_others(
    step: str,
    error: Exception,
    album: Path,
    batch: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = getattr(run_module, step)

    def fail_once(job: Any, *rest: Any) -> Any:
        if job.output == "a.png":
            raise error
        return done(job, *rest)

    monkeypatch.setattr(run_module, step, fail_once)
    result = batch(album, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert f"a.png failed: {type(error).__name__}: {error}" in result.stderr
    assert set(tree(tmp_path / "out")) == {"b.jpg", "c.webp"}


def test_a_full_disk_fails_cleanly_and_is_tried_again_only_with_space(
    album: Path, batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    save, compute = run_module.save, run_module.compute
    disk: Any = SimpleNamespace(free=0)

    def full(job: Any, *rest: Any) -> float:
        if job.output == "a.png":
            error = InputError(f"cannot write {job.target}: No space left on device")
            raise error from OSError(28, "No space left on device")
        return save(job, *rest)

    def count(job: Any, *rest: Any) -> Any:
        computed.append(job.output)
        return compute(job, *rest)

    monkeypatch.setattr(run_module, "save", full)
    monkeypatch.setattr(run_module, "compute", count)
    monkeypatch.setattr(run_module.shutil, "disk_usage", lambda _path: disk)
    result = batch(album, "-o", tmp_path / "out", "-j", 1)
    assert result.exit_code == 3
    # One more may be under way before the failure of the first is known.
    assert computed in (["a.png"], ["a.png", "b.jpg"])
    assert "no space left for" in result.stderr
    disk.free = 2**40
    assert batch(album, "-o", tmp_path / "other").exit_code == 3
    assert set(tree(tmp_path / "other")) == {"b.jpg", "c.webp"}


def test_no_thread_is_left_behind(album: Path, batch: Any, tmp_path: Path) -> None:
    before = threading.active_count()
    assert batch(album, "-o", tmp_path / "out").exit_code == 0
    assert threading.active_count() == before
