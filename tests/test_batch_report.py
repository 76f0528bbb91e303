"""`diffir batch --report`: a page of the pictures before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from tests.conftest import noise_image, succeeded


def test_a_page_shows_pictures_and_failures(album: Path, batch: Any, tmp_path: Path) -> None:
    (album / "bad.png").write_bytes(b"no picture")
    report = tmp_path / "report.html"
    assert batch(album, "-o", tmp_path / "out", "--report", report).exit_code == 3
    page = report.read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert {image["name"] for image in data["images"]} == {"a.png", "b.jpg", "c.webp"}
    assert all(image["before"].startswith("data:image/jpeg") for image in data["images"])
    assert [name for name, _ in data["failures"]] == [str(album / "bad.png")]


def test_a_page_shows_what_was_read_under_other_limits(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    cut = (album / "a.png").read_bytes()
    (album / "a.png").write_bytes(cut[: len(cut) // 2])
    report = tmp_path / "report.html"
    succeeded(batch(album, "-o", tmp_path / "out", "--allow-truncated", "--report", report))
    data = json.loads(report.read_text("utf-8").split('id="data">')[1].split("</script>")[0])
    assert {image["name"] for image in data["images"]} == {"a.png", "b.jpg", "c.webp"}
    assert not data["failures"]


def test_a_page_is_not_replaced_by_a_run_that_restores_nothing(
    album: Path, batch: Any, tmp_path: Path
) -> None:
    (album / "bad.png").write_bytes(b"no picture")
    report = tmp_path / "report.html"
    command = (album, "-o", tmp_path / "out", "--report", report)
    assert batch(*command).exit_code == 3
    page = report.read_bytes()
    again = batch(*command)
    assert again.exit_code == 3 and "report.html stays as it was" in again.stderr
    assert report.read_bytes() == page


def test_a_page_replaces_only_an_earlier_page(album: Path, batch: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<title>my notes</title>", encoding="utf-8")
    command = (album, "-o", tmp_path / "out", "--report", report)
    result = batch(*command)
    assert result.exit_code == 3 and "already exists and is no report" in result.stderr
    assert report.read_text(encoding="utf-8") == "<title>my notes</title>"
    assert not (tmp_path / "out").exists()
    report.unlink()
    assert batch(*command).exit_code == 0
    Image.fromarray(noise_image(8, 8)).save(album / "new.png")
    assert batch(*command).exit_code == 0 and "new.png" in report.read_text(encoding="utf-8")
