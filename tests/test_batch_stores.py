"""`diffir batch` from and into object stores, against a real S3 server on this machine."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.batch_helpers import BUCKET, lines, objects, tree
from tests.conftest import noise_image, run_cli, succeeded

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("extra", [(), ("--workers", 2, "--threads", 1)])
def test_a_store_gives_and_takes_the_bytes_of_folders(
    extra: tuple[Any, ...], album: Path, uploaded: str, store: Any, batch: Any, tmp_path: Path
) -> None:
    assert batch(album, "-r", "-o", tmp_path / "out").exit_code == 0
    succeeded(batch(uploaded, "-r", "-o", f"s3://{BUCKET}/out", *extra))
    assert objects(store, "out") == tree(tmp_path / "out")


def test_a_store_and_a_folder_may_be_mixed(
    album: Path, uploaded: str, store: Any, batch: Any, tmp_path: Path
) -> None:
    assert batch(album, "-o", f"s3://{BUCKET}/out").exit_code == 0
    page = tmp_path / "report.html"
    assert batch(uploaded, "-o", tmp_path / "out", "--report", page).exit_code == 0
    assert page.read_text(encoding="utf-8").count("data:image/") >= 6
    assert set(tree(tmp_path / "out")) == {"a.png", "b.jpg", "c.webp"}
    assert objects(store, "out") == tree(tmp_path / "out")
    assert (tmp_path / "out" / ".diffir-journal.jsonl").exists()


def test_the_same_command_does_nothing_twice_and_reads_no_result_again_on_any_machine(
    uploaded: str, store: Any, batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (uploaded, "-r", "-o", f"s3://{BUCKET}/out")
    assert batch(*options).exit_code == 0
    reads = []
    kept = type(store)._cat_file

    async def noted(self: Any, path: str, *arguments: Any, **settings: Any) -> Any:
        reads.append(path)
        return await kept(self, path, *arguments, **settings)

    monkeypatch.setattr(type(store), "_cat_file", noted)
    type(store).clear_instance_cache()
    result = succeeded(batch(*options))
    assert "4 pictures were finished before" in result.stderr
    assert reads
    assert not [path for path in reads if "/out/" in path and "journal" not in path]
    # The journal in the store serves another machine, and its plan.
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path / "elsewhere"))
    planned = succeeded(batch(*options, "--dry-run", "--json"))
    assert lines(planned)[-1]["finished_before"] == 4
    assert "4 pictures were finished before" in succeeded(batch(*options)).stderr


def test_a_run_that_died_behind_an_upload_goes_on_there(
    uploaded: str, store: Any, batch: Any, tmp_path: Path
) -> None:
    options = (uploaded, "-r", "-o", f"s3://{BUCKET}/out")
    assert batch(*options).exit_code == 0
    # As if the last upload were done and its time not noted, and another had only been announced.
    (journal,) = (tmp_path / "home").rglob(".diffir-journal.jsonl")
    kept = [line for line in journal.read_text().splitlines() if "output_mtime_ns" not in line]
    assert len(kept) == 4
    journal.write_text("".join(line + "\n" for line in kept))
    store.rm(f"{BUCKET}/out/.diffir-journal.jsonl")
    store.rm(f"{BUCKET}/out/b.jpg")
    before = objects(store, "out")
    result = succeeded(batch(*options))
    assert "3 pictures were finished before" in result.stderr
    assert "1 done" in result.stderr
    after = objects(store, "out")
    assert set(after) == {*before, "b.jpg"}


def test_a_changed_object_is_restored_again(uploaded: str, store: Any, batch: Any) -> None:
    options = (uploaded, "-o", f"s3://{BUCKET}/out")
    assert batch(*options).exit_code == 0
    store.pipe_file(f"{BUCKET}/album/a.png", store.cat_file(f"{BUCKET}/album/below/a.png"))
    result = succeeded(batch(*options))
    assert "a.png is made again: the picture has changed" in result.stderr
    assert "1 done, 2 finished before" in result.stderr


def test_an_object_of_somebody_else_is_not_replaced(uploaded: str, store: Any, batch: Any) -> None:
    store.pipe_file(f"{BUCKET}/out/a.png", b"mine")
    refused = batch(uploaded, "-o", f"s3://{BUCKET}/out")
    assert refused.exit_code == 3
    assert f"s3://{BUCKET}/out/a.png already exists" in refused.stderr
    assert set(objects(store, "out")) == {"a.png"}
    succeeded(batch(uploaded, "-o", f"s3://{BUCKET}/out", "--on-exist", "rename"))
    assert set(objects(store, "out")) == {"a.png", "a-1.png", "b.jpg", "c.webp"}
    assert objects(store, "out")["a.png"] == b"mine"


@pytest.mark.parametrize("scheme", ["s3", "s3a", "S3"])
def test_results_never_replace_their_sources_by_any_name_of_the_store(
    scheme: str, uploaded: str, store: Any, batch: Any
) -> None:
    before = objects(store, "album")
    result = batch(uploaded, "-o", uploaded.replace("s3", scheme, 1), "--on-exist", "overwrite")
    assert result.exit_code == 3 and "would replace a source" in result.stderr
    assert objects(store, "album") == before


def test_in_place_replaces_objects_once(uploaded: str, store: Any, batch: Any) -> None:
    assert batch(uploaded, "-o", f"s3://{BUCKET}/out").exit_code == 0
    assert batch(uploaded, "--in-place").exit_code == 0
    album = objects(store, "album")
    assert {name: album[name] for name in ("a.png", "b.jpg")} == {
        name: data for name, data in objects(store, "out").items() if name in ("a.png", "b.jpg")
    }
    again = succeeded(batch(uploaded, "--in-place"))
    assert "3 pictures were finished before" in again.stderr
    assert objects(store, "album") == album


def test_a_picture_whose_size_stands_far_behind_is_planned(store: Any, batch: Any) -> None:
    # Pillow writes the directory of a TIFF behind its pixels.
    file = io.BytesIO()
    Image.fromarray(noise_image(250, 260)).save(file, "TIFF")
    store.pipe_file(f"{BUCKET}/in/large.tif", file.getvalue())
    result = succeeded(
        batch(f"s3://{BUCKET}/in", "-o", f"s3://{BUCKET}/out", "--dry-run", "--json")
    )
    planned, summary = lines(result)
    assert planned["pixels"] == 250 * 260
    assert summary["free_bytes"] is None


def test_patterns_and_single_objects_are_taken(uploaded: str, store: Any, batch: Any) -> None:
    succeeded(batch(f"{uploaded}/*.p*g", f"{uploaded}/b.jpg", "-o", f"s3://{BUCKET}/out"))
    assert set(objects(store, "out")) == {"a.png", "b.jpg"}


def test_masks_may_lie_in_a_store(
    inpaint_file: Path, store: Any, photos: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for photo in sorted(photos.iterdir())[:2]:
        mask = Image.new("L", (192, 160))
        mask.paste(255, (20, 20, 40, 40))
        mask.save(masks / f"{photo.stem}_mask.png")
    store.put(f"{photos}/", f"{BUCKET}/photos/", recursive=True)
    store.put(f"{masks}/", f"{BUCKET}/masks/", recursive=True)
    options = ("batch", "-w", inpaint_file, "--task", "inpaint", "-d", "cpu")
    local = run_cli(*options, photos, "--mask", masks, "-o", tmp_path / "out")
    place = f"s3://{BUCKET}"
    remote = run_cli(*options, f"{place}/photos", "--mask", f"{place}/masks", "-o", f"{place}/out")
    assert local.exit_code == remote.exit_code == 3
    assert "2.png has no mask" in remote.stderr
    assert objects(store, "out") == tree(tmp_path / "out")


def test_file_uris_are_paths(album: Path, batch: Any, tmp_path: Path) -> None:
    spaced = album.rename(tmp_path / "an album")
    succeeded(batch(spaced.as_uri(), "-o", (tmp_path / "the out").as_uri()))
    assert set(tree(tmp_path / "the out")) == {"a.png", "b.jpg", "c.webp"}
    assert (tmp_path / "the out" / ".diffir-journal.jsonl").exists()


def test_folders_with_letters_of_patterns_are_folders(
    album: Path, store: Any, batch: Any, tmp_path: Path
) -> None:
    assert batch(album / "a.png", "-o", tmp_path / "out").exit_code == 0
    for folder in ("album [2020]", "why?", "a*b"):
        store.put_file(str(album / "a.png"), f"{BUCKET}/{folder}/{folder}/a.png")
        target = f"out/{folder}"
        for _ in range(2):
            result = succeeded(
                batch(f"s3://{BUCKET}/{folder}", "-r", "-o", f"s3://{BUCKET}/{target}")
            )
        assert "1 picture was finished before" in result.stderr
        made = objects(store, target)
        assert made == {f"{folder}/a.png": (tmp_path / "out" / "a.png").read_bytes()}


def test_a_shard_that_begins_touches_no_line_of_one_that_runs(
    uploaded: str, batch: Any, tmp_path: Path
) -> None:
    options = (uploaded, "-r", "-o", f"s3://{BUCKET}/out")
    for number in (1, 2):
        assert batch(*options, "--shard", f"{number}/2").exit_code == 0
    (home,) = (tmp_path / "home" / "state" / "batch").iterdir()
    one, two = (home / f".diffir-journal-{number}-of-2.jsonl" for number in (1, 2))
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in (one, two) if path.exists()}
    assert before
    assert batch(*options, "--shard", "2/2").exit_code == 0
    assert {path: (path.read_bytes(), path.stat().st_ino) for path in before} == before
    whole = batch(*options)
    assert "4 pictures were finished before" in whole.stderr
