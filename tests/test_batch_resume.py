"""The same `diffir batch` again: what is finished stays, what has changed is done again."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffir_cli.batch.journal import Journal
from tests.batch_helpers import lines, tree
from tests.conftest import noise_image, succeeded

# As something untyped, since its names are replaced here.
run_module: Any = importlib.import_module("diffir_cli.batch.run")


def test_the_same_command_again_does_nothing_even_for_sources_touched_or_moved(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert batch(album, "-o", out).exit_code == 0
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.*")}
    for change in ("none", "touched", "moved"):
        if change == "touched":
            os.utime(album / "a.png", (1, 1))
        if change == "moved":
            album = album.rename(tmp_path / "moved")
        result = succeeded(batch(album, "-o", out, "--json"))
        assert lines(result)[-1]["finished_before"] == 3
        assert {path: path.stat().st_mtime_ns for path in out.glob("*.*")} == times


@pytest.mark.parametrize(
    ("change", "wording"),
    [
        ("source", "the picture has changed"),
        ("seed", "other options"),
        ("weights", "other weights"),
    ],
)
def test_what_has_changed_is_done_again_and_said_so(
    change: str, wording: str, album: Path, batch: Any, s2_file: Path, tmp_path: Path
) -> None:
    out, extra = tmp_path / "out", []
    assert batch(album, "-o", out).exit_code == 0
    before = tree(out)
    if change == "source":
        Image.fromarray(noise_image(12, 20, seed=9)).save(album / "a.png")
    elif change == "seed":
        extra = ["--seed", "5"]
    else:
        copy = tmp_path / "other.safetensors"
        data = bytearray(s2_file.read_bytes())
        data[-1] ^= 1
        copy.write_bytes(data)
        extra = ["-w", str(copy)]
    result = succeeded(batch(album, "-o", out, *extra))
    assert wording in result.stderr
    again = [line for line in result.stderr.splitlines() if "made again" in line]
    assert len(again) == (1 if change == "source" else 3)
    assert tree(out)["a.png"] != before["a.png"]


def test_a_larger_limit_of_pixels_adds_results_and_makes_none_again(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    whole = (album / "a.png").read_bytes()
    (album / "cut.png").write_bytes(whole[: len(whole) * 3 // 4])
    assert batch(album, "-o", out, "--max-pixels", 200).exit_code == 3
    first = tree(out)
    *_, summary = lines(succeeded(batch(album, "-o", out, "--allow-truncated", "--json")))
    assert first and summary["finished_before"] == len(first)
    assert summary["done"] == 4 - len(first)


def test_a_result_that_was_changed_since_is_in_the_way(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert batch(album, "-o", out).exit_code == 0
    (out / "a.png").write_bytes(b"retouched by hand")
    result = batch(album, "-o", out)
    assert result.exit_code == 3 and "already exists" in result.stderr
    assert (out / "a.png").read_bytes() == b"retouched by hand"


@pytest.mark.parametrize("policy", ["skip", "overwrite", "rename", "error"])
def test_foreign_files_get_what_was_asked_for(
    policy: str, album: Path, batch: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"foreign")
    result = batch(album, "-o", out, "--on-exist", policy)
    made = tree(out)
    assert result.exit_code == (3 if policy == "error" else 0), result.output
    assert (made["a.png"] == b"foreign") is (policy != "overwrite")
    assert ("a-1.png" in made) is (policy == "rename")
    assert ("b.jpg" in made) is (policy != "error")
    if policy == "rename":
        again = lines(batch(album, "-o", out, "--on-exist", policy, "--json"))
        assert again[-1]["finished_before"] == 3
        assert set(tree(out)) == set(made)


@pytest.mark.parametrize(
    "line",
    [
        '{"input": "a", "output": 5, "output_sha256": "0"}',
        '{"input": "a", "output_sha256": "0"}',
        '{"input": ["a"], "output": "a.png", "output_sha256": "0"}',
        '["a.png"]',
        '{"input": "a", "output": "a\\u0000b.png", "output_sha256": "0"}',
        '{"input": "a", "output": "\\ud800.png", "output_sha256": "0"}',
        "[" * 100_000,
    ],
)
def test_a_line_of_a_journal_that_makes_no_sense_counts_for_nothing(
    line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = '{"input": "b", "output": "b.png", "output_sha256": "1", "later": true}'
    (tmp_path / ".diffir-journal.jsonl").write_text(f"{line}\n{good}\n")
    assert set(Journal(tmp_path).records) == {"b.png"}
    assert "line 1 of" in caplog.text and "line 2 of" not in caplog.text


def test_a_torn_last_line_and_a_damaged_one_are_healed(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert batch(album, "-o", out).exit_code == 0
    journal = out / ".diffir-journal.jsonl"
    parts = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"\x00garbage\n" + parts[0] + parts[1] + parts[2][:40])
    result = succeeded(batch(album, "-o", out, "--on-exist", "overwrite", "--json"))
    assert lines(result)[-1]["finished_before"] == 2
    whole = journal.read_bytes().splitlines()
    assert [json.loads(line)["output"] for line in whole[1:]]


def test_a_second_run_into_the_same_folder_is_refused(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    from diffir_cli.batch.lock import locked

    out = tmp_path / "out"
    out.mkdir()
    with locked(out):
        result = batch(album, "-o", out)
    assert result.exit_code == 3
    assert f"process {os.getpid()} on" in result.stderr
    # Nothing of the first run is in the way once it has ended.
    assert batch(album, "-o", out).exit_code == 0
