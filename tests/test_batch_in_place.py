"""`diffir batch --in-place`: a picture is restored once, whatever its name and place."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from diffir_cli.batch import writing
from diffir_cli.batch.lock import locked
from diffir_cli.batch.request import Request
from diffir_cli.errors import InputError
from diffir_cli.imaging import read_picture
from tests.batch_helpers import tree
from tests.conftest import noise_folder, noise_image, succeeded

# As something untyped, since its names are replaced here.
run_module: Any = importlib.import_module("diffir_cli.batch.run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one picture of 3×2 pixels."""
    folder = tmp_path / "p"
    folder.mkdir()
    Image.fromarray(noise_image(2, 3)).save(folder / "a.png")
    return folder


def _moved(folder: Path) -> list[object]:
    return [folder.rename(folder.with_name("q"))]


def _renamed(folder: Path) -> list[object]:
    (folder / "a.png").rename(folder / "other.png")
    return [folder]


def _copied(folder: Path) -> list[object]:
    return [shutil.copytree(folder, folder.with_name("r"), copy_function=shutil.copyfile)]


def _taken_out(folder: Path) -> list[object]:
    (folder.parent / "out").mkdir()
    return [shutil.copyfile(folder / "a.png", folder.parent / "out" / "b.png")]


def _linked(folder: Path) -> list[object]:
    (folder.parent / "link").symlink_to(folder)
    (folder.parent / "c.png").symlink_to(folder / "a.png")
    return [folder.parent / "link", folder.parent / "c.png"]


def _mounted_elsewhere(folder: Path) -> list[object]:
    (folder.parent / "mnt" / "disk").mkdir(parents=True)
    return [folder.rename(folder.parent / "mnt" / "disk" / "p") / "a.png"]


@pytest.mark.parametrize(
    "again",
    [
        lambda folder: [f"{folder}/../p"],
        lambda folder: [os.path.relpath(folder)],
        lambda folder: [folder / "*.png"],
        lambda folder: [folder / "a.png", f"{folder}/./a.png"],
        lambda folder: [folder.parent, "-r"],
        _linked,
        _moved,
        _renamed,
        _copied,
        _taken_out,
        _mounted_elsewhere,
    ],
)
def test_a_result_is_not_restored_again_however_it_is_named(
    again: Callable[[Path], list[object]], folder: Path, batch: Any
) -> None:
    assert batch(folder, "--in-place").exit_code == 0
    result = succeeded(batch(*again(folder), "--in-place"))
    assert "finished before" in result.stderr and "nothing to do" in result.stderr
    for path in folder.parent.rglob("*.png"):
        assert read_picture(path).size == (12, 8)


def test_a_folder_whose_name_looks_like_a_pattern_holds_its_own_journal(
    folder: Path, batch: Any
) -> None:
    bracketed = folder.rename(folder.with_name("x[1]"))
    for word in ("1 done", "1 finished before"):
        assert word in succeeded(batch(bracketed, "--in-place")).stderr
    assert [path.parent for path in folder.parent.rglob(".diffir-journal*")] == [bracketed]


def test_a_new_picture_under_an_old_name_is_restored(folder: Path, batch: Any) -> None:
    original = (folder / "a.png").read_bytes()
    assert batch(folder, "--in-place").exit_code == 0
    Image.fromarray(noise_image(5, 4, seed=1)).save(folder / "a.png")
    assert batch(folder, "--in-place").exit_code == 0
    assert read_picture(folder / "a.png").size == (16, 20)
    (folder / "a.png").write_bytes(original)
    assert batch(folder, "--in-place").exit_code == 0
    assert read_picture(folder / "a.png").size == (12, 8)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "avif"])
def test_a_file_that_says_that_these_weights_made_it_is_finished(
    ending: str, batch: Any, restore: Any, tmp_path: Path
) -> None:
    source, result = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    Image.fromarray(noise_image(8, 8)).save(source)
    assert restore(source, result).exit_code == 0
    before = result.read_bytes()
    assert "1 picture was finished before" in batch(result, "--in-place").stderr
    assert result.read_bytes() == before
    assert batch(result, "--in-place", "--seed", 1).exit_code == 0
    assert read_picture(result).size == (128, 128)
    assert "nothing to do" in batch(result, "--in-place", "--seed", 1).stderr
    assert batch(result, "--in-place").exit_code == 0
    assert read_picture(result).size == (128, 128)


def test_overwrite_restores_a_file_whatever_it_says_of_itself(
    batch: Any, restore: Any, tmp_path: Path
) -> None:
    Image.fromarray(noise_image(8, 8)).save(tmp_path / "in.png")
    result = tmp_path / "out.png"
    assert restore(tmp_path / "in.png", result).exit_code == 0
    assert batch(result, "--in-place", "--on-exist", "overwrite").exit_code == 0
    assert read_picture(result).size == (128, 128)


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("extra", [[], ["--workers", 2, "--threads", 1]])
def test_all_names_of_one_file_are_one_picture(
    extra: list[Any], folder: Path, batch: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (folder / "b.png").hardlink_to(folder / "a.png")
    (other / "c.png").hardlink_to(folder / "a.png")
    (folder / "d.png").symlink_to("a.png")
    arguments = ("--in-place", "--strip-metadata", *extra)
    result = succeeded(batch(folder, other, f"{folder}/../p/a.png", *arguments))
    assert "1 picture to restore" in result.stderr
    assert (folder / "a.png").samefile(folder / "b.png") and (folder / "d.png").is_symlink()
    assert (folder / "a.png").samefile(other / "c.png")
    assert read_picture(folder / "a.png").size == (12, 8)
    for named in (folder, other):
        assert "nothing to do" in batch(named, *arguments).stderr
    assert not list(tmp_path.rglob("*.part"))


def test_another_name_that_cannot_be_replaced_leaves_no_unfinished_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, other = tmp_path / "a.png", tmp_path / "other/b.png"
    result.write_bytes(b"result")
    other.parent.mkdir()

    def refuse(*_names: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "replace", refuse)
    job: Any = SimpleNamespace(target=result, links=(other,))
    work: Any = SimpleNamespace(owner="")
    with pytest.raises(PermissionError):
        writing._link(job, work)
    assert list(other.parent.iterdir()) == []


def test_names_of_a_file_that_a_run_does_not_know_are_reported(
    folder: Path, batch: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "kept.png").hardlink_to(folder / "a.png")
    assert batch(folder, "--in-place").exit_code == 0
    assert "a.png has names elsewhere, which keep the old picture" in caplog.text
    assert read_picture(tmp_path / "kept.png").size == (3, 2)


def test_a_result_too_large_for_another_run_is_finished_all_the_same(
    folder: Path, batch: Any
) -> None:
    assert batch(folder, "--in-place", "--max-pixels", 50).exit_code == 0
    result = batch(folder, "--in-place", "--max-pixels", 50)
    assert result.exit_code == 0 and "nothing to do" in result.stderr


@pytest.mark.parametrize("following", ["the folder below", "the folder above", "another order"])
def test_in_place_restores_each_picture_once_whatever_is_named(
    following: str, album: Path, batch: Any, tmp_path: Path
) -> None:
    (album / "c.webp").unlink()
    other = noise_folder(tmp_path / "other", "z.png")
    first: list[Any] = [album / "below"] if following == "the folder above" else [album, other]
    assert batch(*first, "-r", "--in-place").exit_code == 0
    before = {**tree(album), **tree(other)}
    named: list[Any] = {
        "the folder below": [album / "below"],
        "the folder above": [album],
        "another order": [other, album],
    }[following]
    result = succeeded(batch(*named, "-r", "--in-place"))
    done = {"the folder below": 1, "the folder above": 1, "another order": 4}[following]
    word = "1 picture was" if done == 1 else f"{done} pictures were"
    assert f"{word} finished before" in result.stderr
    after = {**tree(album), **tree(other)}
    assert after["below/a.png"] == before["below/a.png"]
    if following != "the folder above":
        assert after == before


@pytest.mark.parametrize("below", [True, False])
def test_in_place_is_refused_where_another_run_writes_above_or_below(
    below: bool, album: Path, batch: Any
) -> None:
    with locked(album / "below" if below else album):
        result = batch(album if below else album / "below", "-r", "--in-place")
    assert result.exit_code == 3
    assert "another run is writing into" in result.stderr


def test_in_place_holds_the_folders_of_all_its_inputs_or_none(
    album: Path, batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = noise_folder(tmp_path / "other", "z.png")
    refused: list[Path] = []
    compute = run_module.compute

    def during(*arguments: Any) -> Any:
        for place in (album, album / "below", other):
            with pytest.raises(InputError, match="another run is writing into"), locked(place):
                pass
            refused.append(place)
        return compute(*arguments)

    monkeypatch.setattr(run_module, "compute", during)
    (album / "c.webp").unlink()
    with locked(other):
        result = batch(album, other, "--in-place")
    assert result.exit_code == 3 and f"another run is writing into {other}" in result.stderr
    assert not list(album.glob(".diffir-lock*"))
    succeeded(batch(other, album / "a.png", album / "below", album, "-r", "--in-place"))
    assert len(refused) == 4 * 3


@pytest.mark.parametrize("named", [".", "../album", "a.png", "link", "link/a.png"])
def test_in_place_does_not_meet_its_own_lock_however_a_folder_is_named(
    named: str, album: Path, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (album / "link").symlink_to(album)
    monkeypatch.chdir(album)
    succeeded(batch(named, "--in-place"))
    again = succeeded(batch(named, "--in-place"))
    assert "0 done" in again.stderr


def test_of_very_many_inputs_those_are_held_that_come_first(tmp_path: Path) -> None:
    folders = [tmp_path / f"{number:03}" for number in reversed(range(200))]
    for folder in folders:
        folder.mkdir()
    unused: Any = None
    request = Request(tuple(map(str, folders)), None, unused, unused)
    assert request.place in request.locked_places
    assert set(request.locked_places) == set(folders[:64])
