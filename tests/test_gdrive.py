"""Weights from Google Drive: folders, confirmations, and what Drive says instead of a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffir_cli.errors import ChecksumError, WeightsError
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.weights.cache import weights_folder
from diffir_cli.weights.policy import pinned
from diffir_cli.weights.registry import WeightSpec, read_registry
from tests.conftest import noise_folder, run_cli, succeeded
from tests.download_helpers import by, download, entry, get
from tests.drive import FOLDER, Drive, drive_served, identifier

pytest.importorskip("gdown")
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def drive(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    files = {"DiffIRS2-GANx4.pth": content, "readme.txt": b"hello", "below/DiffIRS1.pth": b"other"}
    with drive_served(files, monkeypatch) as drive:
        yield drive


def of_folder(spec: WeightSpec, name: str, **changes: object) -> WeightSpec:
    return by(spec, f"gdrive-folder:{FOLDER}/{name}", **changes)


@pytest.mark.parametrize("name", ["DiffIRS2-GANx4.pth", "diffirs2-ganx4.PTH", "*GANx4*.pth"])
def test_a_file_of_a_folder_is_found_by_its_name_and_confirmed(
    name: str, spec: WeightSpec, drive: Drive, content: bytes
) -> None:
    path = get(of_folder(spec, name))
    assert path.read_bytes() == content and path == weights_folder(spec) / "tiny.pth"
    assert any("confirm=t" in asked for asked in drive.asked)
    assert [file.name for file in path.parent.iterdir()] == ["tiny.pth"]


def test_folders_below_are_looked_through(
    spec: WeightSpec, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with drive_served({"below/last.ckpt": content, "x.txt": b"x"}, monkeypatch):
        assert get(of_folder(spec, "below/*.ckpt")).read_bytes() == content


def test_a_file_of_a_known_identifier_is_confirmed_too(
    spec: WeightSpec, drive: Drive, content: bytes
) -> None:
    known = by(spec, f"gdrive:{identifier('DiffIRS2-GANx4.pth')}")
    assert get(known).read_bytes() == content
    assert not any("embeddedfolderview" in asked for asked in drive.asked)


@pytest.mark.parametrize(
    ("name", "wording"),
    [
        ("absent.pth", "the folder has no absent.pth, but DiffIRS2-GANx4.pth, below/DiffIRS1.pth"),
        ("*.pth", "2 files of the folder fit *.pth: DiffIRS2-GANx4.pth, below/DiffIRS1.pth"),
    ],
)
def test_a_name_that_fits_none_or_several_files_is_answered_with_their_names(
    name: str, wording: str, spec: WeightSpec, drive: Drive
) -> None:
    with pytest.raises(WeightsError, match=re.escape(wording)):
        get(of_folder(spec, name))
    assert not any("/uc" in asked for asked in drive.asked)


@pytest.mark.parametrize(
    ("way", "wording"),
    [
        ("quota", "too many people have downloaded the file from Google Drive: try again tomorrow"),
        ("stranger", "Google Drive shows a page instead of the file: it asks you to sign in"),
        ("sign-in", "Google Drive shows no files in the folder"),
        ("closed", "Failed to retrieve folder contents"),
        ("page", "Google Drive sent a web page instead of the file"),
    ],
)
@pytest.mark.parametrize("promised", [True, False])
def test_what_drive_says_instead_of_a_file_is_one_line_and_the_way_by_hand(
    promised: bool, way: str, wording: str, spec: WeightSpec, drive: Drive
) -> None:
    drive.way = way
    wanted = of_folder(spec, "DiffIRS2-GANx4.pth", **({} if promised else {"sha256": "unpinned"}))
    with pytest.raises(WeightsError, match=re.escape(wording)) as caught:
        get(wanted)
    assert "\n" not in caught.value.message and "http" not in caught.value.message
    for fact in (spec.source, "download tiny.pth", "--from tiny.pth", str(weights_folder(spec))):
        assert fact in caught.value.hint
    assert not list(weights_folder(spec).iterdir()) and pinned("tiny") is None


def test_no_connection_is_named_as_such(spec: WeightSpec, drive: Drive) -> None:
    drive.address = "http://127.0.0.1:1"
    with pytest.raises(WeightsError, match="no connection: Connection refused"):
        get(of_folder(spec, "DiffIRS2-GANx4.pth"))


@pytest.mark.usefixtures("drive")
def test_another_file_than_was_promised_is_not_kept(spec: WeightSpec) -> None:
    with pytest.raises(ChecksumError, match="is another file"):
        get(of_folder(spec, "readme.txt"))
    assert not list(weights_folder(spec).iterdir())


def test_restore_downloads_from_a_folder_with_no_other_step(
    drive: Drive, tiny: ModelConfig, tmp_path: Path
) -> None:
    registry = tmp_path / "registry.toml"
    url = f"gdrive-folder:{FOLDER}/DiffIRS2-GANx4.pth"
    registry.write_text(entry(tiny, urls=[url]), encoding="utf-8")
    photo = noise_folder(tmp_path / "photos", "a.png") / "a.png"
    use = ("restore", photo, "-w", "tiny", "--registry", registry, "-d", "cpu")
    refused = run_cli(*use, "--no-download")
    assert refused.exit_code == 4 and "downloads are off" in refused.stderr
    for fact in ("tiny.pth", "https://example.org/tiny", "--from tiny.pth", "weights/tiny"):
        assert fact in refused.stderr
    assert not drive.asked
    done = succeeded(run_cli(*use))
    assert "downloading tiny" in done.stderr
    asked = len(drive.asked)
    assert run_cli(*use, "--overwrite").exit_code == 0 and len(drive.asked) == asked


@pytest.mark.parametrize("name", ["deblur-gopro", "realsr-x4-v2", "inpaint-places-big", "sr-x2"])
def test_the_official_names_ask_drive_for_their_folder(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = read_registry()[name]
    folder = spec.source.rpartition("/")[2]
    with drive_served({"other.pth": b"x"}, monkeypatch) as drive:
        result = download(name)
    assert result.exit_code == 4 and "but other.pth" in result.stderr
    assert f"--from {spec.file}" in result.stderr
    assert drive.asked == [f"/drive/embeddedfolderview?id={folder}"]
