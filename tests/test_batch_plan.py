"""The plan of `diffir batch`: it promises what the run does, and its hints help."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffir_cli.imaging import read_picture
from tests.batch_helpers import lines, tree
from tests.conftest import noise_image, run_cli, succeeded


def _save(path: Path, kind: str = "", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise_image(8, 8, seed=seed)).save(path, kind or None)
    return path


@pytest.mark.parametrize(
    ("name", "kind"), [("photo.jpg", "PNG"), ("b.tif", "JPEG"), ("bare", "JPEG"), ("c.png", "TIFF")]
)
def test_in_place_a_file_keeps_its_format_under_any_name(
    name: str, kind: str, batch: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    _save(folder / name, kind)
    _save(folder / "good.png")
    plan = batch(folder, "--in-place", "--dry-run")
    assert plan.exit_code == 0 and "2 pictures to restore" in plan.stderr
    assert "0 will fail" in plan.stderr
    assert batch(folder, "--in-place").exit_code == 0
    for path in (folder / name, folder / "good.png"):
        assert read_picture(path).size == (32, 32)
    assert Image.open(folder / name).format == kind


@pytest.mark.parametrize("name", ["photo.png.jpg", "v1.webp.png", "a.tar.gz.tif", "x.jpg."])
def test_one_odd_name_stops_nothing(name: str, batch: Any, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    _save(folder / name, "PNG")
    _save(folder / "good.png")
    assert batch(folder, "-o", tmp_path / "out", "-f", "jpg").exit_code == 0
    assert set(tree(tmp_path / "out")) == {f"{Path(name).stem}.jpg", "good.jpg"}
    assert batch(folder / name, "-o", tmp_path / "own").exit_code == 0
    assert len(tree(tmp_path / "own")) == 1


def test_restore_names_its_result_by_the_requested_format(s2_file: Path, tmp_path: Path) -> None:
    photo = _save(tmp_path / "photo.jpg")
    succeeded(run_cli("restore", photo, "-w", s2_file, "-f", "png"))
    assert Image.open(tmp_path / "photo_realsr_x4.png").format == "PNG"


@pytest.mark.parametrize(
    ("names", "inputs", "extra"),
    [
        (["p/IMG.JPG", "p/IMG.jpg"], ["p"], []),
        (["p/IMG.JPG", "p/IMG.jpg"], ["p"], ["--name", "{stem}_{ext}"]),
        (["p/IMG.JPG", "p/IMG.jpg"], ["p"], ["--suffix", "_x4"]),
        (["d1/x.png", "d2/x.png"], ["d1", "d2"], []),
        (["d1/x.png", "d2/x.png"], ["d1", "d2"], ["-r", "--name", "{stem}_{ext}"]),
        (["a/d/x.png", "b/d/x.png"], ["a/d", "b/d"], ["-r"]),
        (["p/a.png", "p/a.jpg"], ["p"], ["--format", "png"]),
        (["p/q/a.png", "p/a.png"], ["p"], ["-r", "--name", "{{}}-'x'", "--format", "png"]),
    ],
)
def test_a_hint_against_two_results_of_one_name_helps(
    names: list[str],
    inputs: list[str],
    extra: list[str],
    batch: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(names):
        _save(Path(name), seed=seed)
    result = batch(*inputs, "-o", "out", *extra)
    if result.exit_code == 0:
        assert len(tree(Path("out"))) == len(names)
        return
    assert result.exit_code == 3 and "would both become" in result.stderr
    found = re.search(r"hint: name the results by (--name .*) instead", result.stderr)
    assert found
    others = shlex.split(found[1])
    assert others[1] not in extra
    kept = [word for word in extra if not word.startswith(("--name", "--suffix", "{", "_"))]
    assert batch(*inputs, "-o", "out", *kept, *others).exit_code == 0
    assert len(tree(Path("out"))) == len(names)


def _odd(folder: Path) -> None:
    """Files that no run can restore, for reasons that names and headers tell."""
    folder.mkdir()
    Image.fromarray(np.ones((8, 8), np.int32)).save(folder / "integers.tif")
    Image.fromarray(noise_image(200, 200)).save(folder / "large.png")
    (folder / "cut.png").write_bytes((folder / "large.png").read_bytes()[:-100])
    _save(folder / ("n" * 250 + ".png"))
    _save(folder / "good.png")


@pytest.mark.parametrize("extra", [[], ["--max-memory", "1M"]])
def test_the_plan_fails_what_the_run_fails(extra: list[str], batch: Any, tmp_path: Path) -> None:
    _odd(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "good_x4.png").mkdir()
    arguments = (tmp_path / "in", "-o", tmp_path / "out", "--suffix", "_x4", "--json", *extra)
    arguments = (*arguments, "--on-exist", "overwrite")
    *planned, summary = lines(batch(*arguments, "--dry-run"))
    *done, _ = lines(batch(*arguments))
    expected = {one["input"]: one["error"] for one in planned if one["state"] == "error"}
    failed = {one["input"]: one["error"] for one in done if one["status"] == "failed"}
    assert failed == expected and len(failed) == summary["will_fail"] == (5 if extra else 4)


@pytest.mark.parametrize("name", ["", " ", "file://", "file://["])
def test_an_empty_name_is_no_folder(
    name: str, batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise_image(8, 8)).save("a.png")
    for command in ((name, "--in-place"), ("a.png", "-o", name)):
        result = batch(*command)
        assert result.exit_code == 3 and result.stderr.count("error:") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"a.png", "tiny.safetensors"}


def test_a_pattern_includes_the_folders_that_it_matches_with_recursive(
    batch: Any, tmp_path: Path
) -> None:
    (tmp_path / "tree/sub/below").mkdir(parents=True)
    for place in ("a.png", "sub/b.png", "sub/below/c.png"):
        Image.fromarray(noise_image(8, 8)).save(tmp_path / "tree" / place)
    out = tmp_path / "out"
    assert batch(f"{tmp_path}/tree/*", "-r", "-o", out).exit_code == 0
    assert set(tree(out)) == {"a.png", "sub/b.png", "sub/below/c.png"}


def test_the_plan_looks_at_masks(inpaint_file: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        _save(tmp_path / "in" / name)
    (tmp_path / "masks").mkdir()
    Image.fromarray(noise_image(8, 9, 1)).save(tmp_path / "masks" / "a.png")
    arguments = ("batch", tmp_path / "in", "-o", tmp_path / "out", "-w", inpaint_file, "--json")
    for masks in (["--mask", tmp_path / "masks"], ["--mask-from-alpha"]):
        planned = lines(run_cli(*arguments, "--task", "inpaint", *masks, "--dry-run"))
        assert planned[-1]["will_fail"] == 2
        assert run_cli(*arguments, "--task", "inpaint", *masks).exit_code == 3


def test_weights_that_need_a_mask_are_refused_before_the_run(
    inpaint_file: Path, tmp_path: Path
) -> None:
    _save(tmp_path / "in" / "a.png")
    for more in ([], ["--dry-run"]):
        arguments = ("--task", "deblur", "-w", inpaint_file, *more)
        result = run_cli("batch", tmp_path / "in", "-o", tmp_path / "out", *arguments)
        assert result.exit_code == 4 and "needs a mask" in result.stderr
        assert not (tmp_path / "out").exists()


def _hole(path: Path, side: int = 3) -> Path:
    mask = np.zeros((8, 8), np.uint8)
    mask[:side, :side] = 255
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


@pytest.mark.parametrize("place", ["photos", "photos/masks", "photos/one.png", "."])
@pytest.mark.parametrize("by_pattern", [False, True])
def test_photos_are_no_masks_and_masks_no_photos(
    by_pattern: bool, place: str, inpaint_file: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    _save(photos / "a.png", seed=1)
    _save(photos / "b.png", seed=2)
    if place == "photos/one.png":
        _hole(tmp_path / place)
    else:
        mark = "_mask" if place == "photos" else ""
        for name in ("a", "b"):
            _hole(tmp_path / place / f"{name}{mark}.png")
    named = sorted(photos.rglob("*.png")) if by_pattern else [photos, "-r"]
    arguments = ("-o", tmp_path / "out", "--task", "inpaint", "-w", inpaint_file)
    succeeded(run_cli("batch", *named, *arguments, "--mask", tmp_path / place))
    assert set(tree(tmp_path / "out")) == {"a.png", "b.png"}
    for name, seed in (("a", 1), ("b", 2)):
        filled = read_picture(tmp_path / "out" / f"{name}.png").rgb
        changed = (filled != noise_image(8, 8, seed=seed)).any(axis=2)
        assert changed[:3, :3].any() and not changed[3:].any() and not changed[:, 3:].any()


def test_a_folder_of_photos_holds_no_masks_for_them(inpaint_file: Path, tmp_path: Path) -> None:
    photo = _save(tmp_path / "in" / "a.png")
    _save(tmp_path / "in" / "b.jpg")
    arguments = ("--task", "inpaint", "-w", inpaint_file)
    result = run_cli(
        "batch", tmp_path / "in", "-o", tmp_path / "out", *arguments, "--mask", photo.parent
    )
    assert result.exit_code == 3 and "a.png has no mask in" in result.stderr
    assert tree(tmp_path / "out") == {}
    result = run_cli("batch", photo, "-o", tmp_path / "out", *arguments, "--mask", photo)
    assert result.exit_code == 3 and "no photo is left" in result.stderr
    result = run_cli("restore", photo, "-o", tmp_path / "one.png", *arguments, "--mask", photo)
    assert result.exit_code == 3 and "not a mask of it" in result.stderr
