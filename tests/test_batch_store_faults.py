"""Object stores that are closed, gone, shared or full of what is no picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.batch_helpers import BUCKET, lines, objects
from tests.conftest import run_cli, succeeded

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


def test_bad_objects_fail_alone(uploaded: str, store: Any, batch: Any) -> None:
    store.pipe_file(f"{BUCKET}/album/empty.png", b"")
    store.pipe_file(f"{BUCKET}/album/text.png", b"no picture")
    whole = store.cat_file(f"{BUCKET}/album/a.png")
    store.pipe_file(f"{BUCKET}/album/cut.png", whole[: len(whole) // 2])
    result = batch(uploaded, "-o", f"s3://{BUCKET}/out", "--json")
    assert result.exit_code == 3
    wording = lines(result)
    failed = {Path(line["input"]).name: line["error"] for line in wording if "error" in line}
    assert set(failed) == {"empty.png", "text.png", "cut.png"}
    assert "not a supported image" in failed["text.png"]
    assert "not a supported image" in failed["empty.png"]
    assert set(objects(store, "out")) == {"a.png", "b.jpg", "c.webp"}


@pytest.mark.usefixtures("store")
def test_what_cannot_be_reached_or_left_whole_is_one_error(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    for place, wording in (
        ("s3://no-such-bucket/in", "no such file or folder: s3://no-such-bucket/in"),
        ("s3://pictures/nothing", "no such file or folder: s3://pictures/nothing"),
        ("foo://bucket/in", "foo://bucket/in"),
        ("gs://bucket/in", "gcsfs"),
        ("file://elsewhere/in", "another machine"),
    ):
        result = batch(place, "-o", tmp_path / "out")
        # A library that is not installed is no fault of the images.
        assert result.exit_code == (1 if wording == "gcsfs" else 3), result.output
        assert wording in result.stderr and result.stderr.startswith("error: ")
    for place, wording in (
        ("ftp://127.0.0.1/out", "can leave incomplete"),
        ("http://127.0.0.1/out", "can leave incomplete"),
        ("s3://", "names no bucket"),
    ):
        result = batch(album, "-o", place)
        assert result.exit_code == 3 and wording in result.stderr, result.output


def test_a_bucket_that_is_not_there_is_refused_before_anything_is_computed(
    album: Path, store: Any, batch: Any
) -> None:
    assert store
    result = batch(album, "-o", "s3://no-such-bucket/out")
    assert result.exit_code == 3, result.output
    assert "no such object or bucket: s3://no-such-bucket/out" in result.stderr
    assert "to restore" not in result.stderr


def test_a_store_that_stops_taking_fails_each_picture_and_leaves_a_journal_here(
    uploaded: str, store: Any, batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = type(store)._pipe_file

    async def refused(self: Any, path: str, *arguments: Any, **settings: Any) -> Any:
        if path.endswith(".jsonl"):
            return await put(self, path, *arguments, **settings)
        raise PermissionError(f"Access Denied: {path}")

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "_pipe_file", refused)
        type(store).clear_instance_cache()
        result = batch(uploaded, "-o", f"s3://{BUCKET}/out")
    assert result.exit_code == 3
    assert "0 done, 3 failed" in result.stderr
    assert f"not allowed to use s3://{BUCKET}/out/a.png" in result.stderr
    assert list((tmp_path / "home").rglob(".diffir-journal.jsonl"))
    type(store).clear_instance_cache()
    again = succeeded(batch(uploaded, "-o", f"s3://{BUCKET}/out"))
    assert "3 done" in again.stderr


def test_a_store_that_takes_nothing_is_refused_before_anything_is_computed(
    uploaded: str, store: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_self: Any, path: str, *_arguments: Any, **_settings: Any) -> None:
        raise PermissionError(f"Access Denied: {path}")

    monkeypatch.setattr(type(store), "_pipe_file", refused)
    type(store).clear_instance_cache()
    result = batch(uploaded, "-o", f"s3://{BUCKET}/out")
    type(store).clear_instance_cache()
    assert result.exit_code == 3
    assert "not allowed to use" in result.stderr
    assert "to restore" not in result.stderr


def test_two_runs_into_one_place_exclude_each_other(uploaded: str, batch: Any) -> None:
    from diffir_cli.batch.lock import locked
    from diffir_cli.batch.stores import home_of, parse_place

    place = parse_place(f"s3://{BUCKET}/out")
    home = home_of(place)
    home.mkdir(parents=True)
    with locked(home):
        result = batch(uploaded, "-o", f"s3://{BUCKET}/out")
    assert result.exit_code == 3
    assert f"another run is writing into s3://{BUCKET}/out" in result.stderr


def test_what_another_has_put_there_meanwhile_is_not_replaced(
    uploaded: str, store: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffir_cli.batch import work

    compute = work.compute

    def interrupted(*arguments: Any) -> Any:
        # By another program, of which the listing of this one knows nothing.
        store.pipe_file(f"{BUCKET}/out/b.jpg", b"theirs")
        return compute(*arguments)

    monkeypatch.setattr("diffir_cli.batch.run.compute", interrupted)
    result = batch(uploaded, "-o", f"s3://{BUCKET}/out")
    assert result.exit_code == 3
    assert "b.jpg already exists" in result.stderr
    assert objects(store, "out")["b.jpg"] == b"theirs"
    # And where even the question comes too early, the store says so.
    monkeypatch.setattr("diffir_cli.batch.stores._check_free", lambda _path: None)
    store.rm(f"{BUCKET}/out/b.jpg")
    again = batch(uploaded, "-o", f"s3://{BUCKET}/out")
    assert "b.jpg already exists" in again.stderr
    assert objects(store, "out")["b.jpg"] == b"theirs"


@pytest.mark.parametrize("where", ["out", "in", "mask"])
def test_a_store_that_is_not_there_is_one_error(
    where: str,
    store: Any,
    album: Path,
    inpaint_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    type(store).clear_instance_cache()
    place = f"s3://{BUCKET}/place"
    arguments: list[Any] = [album, "-o", tmp_path / "out", "-w", inpaint_file, "--task", "inpaint"]
    if where == "mask":
        arguments += ["--mask", place]
    else:
        arguments[0 if where == "in" else 2] = place
        arguments += ["--mask-from-alpha"]
    result = run_cli("batch", *arguments)
    type(store).clear_instance_cache()
    assert result.exit_code == 3, result.output
    assert result.stderr.startswith(f"error: cannot reach s3://{BUCKET}/place")


def test_a_torn_line_is_healed_for_stores_too(uploaded: str, batch: Any, tmp_path: Path) -> None:
    options = (uploaded, "-r", "-o", f"s3://{BUCKET}/out")
    assert batch(*options).exit_code == 0
    (journal,) = (tmp_path / "home").rglob(".diffir-journal.jsonl")
    with journal.open("ab") as file:
        file.write(b'{"input": "torn')
    for _ in range(2):
        result = succeeded(batch(*options))
        assert "damaged" not in result.stderr
        assert "4 pictures were finished before" in result.stderr
