"""Which files are taken for the right ones, and which for nothing of the kind."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
from pathlib import Path

import pytest

from diffir_cli.errors import ChecksumError, WeightsError
from diffir_cli.weights.cache import State, state_of, weights_folder
from diffir_cli.weights.download import DownloadPolicy, obtain
from diffir_cli.weights.policy import pinned
from diffir_cli.weights.registry import WeightSpec
from tests.download_helpers import by, get
from tests.web import Web

pytestmark = pytest.mark.usefixtures("home")


def test_what_is_here_is_not_asked_for_again(spec: WeightSpec, web: Web) -> None:
    found = by(spec, web.url("ok"))
    assert get(found) == get(found)
    assert len(web.asked) == 1
    assert state_of(found) is State.CACHED
    assert state_of(found, verify=True) is State.VERIFIED


def test_a_damaged_file_is_noticed_and_not_used(spec: WeightSpec, web: Web) -> None:
    found = by(spec, web.url("ok"))
    path = get(found)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert state_of(found) is State.CACHED
    assert state_of(found, verify=True) is State.CORRUPT
    with pytest.raises(ChecksumError, match="is damaged"):
        get(found)
    path.write_bytes(data[:-1])
    assert state_of(found) is State.CORRUPT


def test_a_file_without_a_promise_is_pinned_and_another_one_refused_later(
    spec: WeightSpec, web: Web, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = by(spec, web.url("ok"), size=0, sha256="unpinned")
    with caplog.at_level(logging.WARNING):
        get(found)
    promised = hashlib.sha256(web.content).hexdigest()
    assert promised in caplog.text
    assert pinned("tiny") == promised
    assert promised in (home / "config" / "pins.toml").read_text(encoding="utf-8")
    assert state_of(found, verify=True) is State.VERIFIED
    shutil.rmtree(weights_folder(found))
    with pytest.raises(ChecksumError, match="is another file") as caught:
        get(by(found, web.url("wrong")))
    assert "pins.toml" in caught.value.hint


@pytest.mark.parametrize("way", ["page", "wrong"])
def test_what_is_no_checkpoint_is_never_pinned(way: str, spec: WeightSpec, web: Web) -> None:
    with pytest.raises(WeightsError, match="is not a weights file"):
        get(by(spec, web.url(way), size=0, sha256="unpinned"))
    assert pinned("tiny") is None
    assert get(by(spec, web.url("ok"), size=0, sha256="unpinned")).exists()


def test_another_network_is_not_taken_for_the_entrys(spec: WeightSpec, web: Web) -> None:
    other = dataclasses.replace(spec.model, num_blocks=(2, 1, 1, 1))
    with pytest.raises(WeightsError, match="does not fit the network"):
        get(by(spec, web.url("ok"), size=0, sha256="unpinned", model=other))
    assert pinned("tiny") is None


@pytest.mark.parametrize("name", ["DIFFIR_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_all_that_is_needed_to_do_it_by_hand(
    name: str, spec: WeightSpec, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(WeightsError, match="downloads are off") as caught:
        obtain(by(spec, web.url("ok")), DownloadPolicy())
    for fact in (spec.file, f"{spec.size:,}", spec.sha256, spec.source, str(weights_folder(spec))):
        assert fact in caught.value.hint
    assert not web.asked


def test_a_file_that_was_put_there_by_hand_is_found_offline(
    spec: WeightSpec, content: bytes
) -> None:
    folder = weights_folder(spec)
    folder.mkdir(parents=True)
    (folder / spec.file).write_bytes(content)
    assert obtain(spec, DownloadPolicy(offline=True)) == folder / spec.file


def test_a_licence_that_has_to_be_agreed_to_is(spec: WeightSpec, web: Web) -> None:
    found = by(spec, web.url("ok"), accept=True, license="CC-BY-NC-4.0")
    with pytest.raises(WeightsError, match=r"CC-BY-NC-4\.0") as caught:
        get(found)
    assert "--accept-license tiny" in caught.value.hint
    assert not web.asked
    get(found, agree=lambda asked: asked.name == "tiny")
    shutil.rmtree(weights_folder(found))
    # Once is enough.
    get(found)


def test_a_folder_of_ones_own_gets_the_published_file(
    spec: WeightSpec, web: Web, tmp_path: Path
) -> None:
    path = get(by(spec, web.url("ok")), folder=tmp_path / "mine")
    assert path == tmp_path / "mine" / "tiny.pth"
    assert path.read_bytes() == web.content
    assert get(by(spec, web.url("ok")), folder=tmp_path / "mine") == path
    assert len(web.asked) == 1
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="already exists"):
        get(by(spec, web.url("ok")), folder=tmp_path / "mine")


def test_a_folder_of_ones_own_is_served_from_the_cache(
    spec: WeightSpec, web: Web, tmp_path: Path
) -> None:
    get(by(spec, web.url("ok")))
    path = get(by(spec, web.url("ok")), folder=tmp_path / "mine", offline=True)
    assert path.read_bytes() == web.content
    assert [file.name for file in path.parent.iterdir()] == ["tiny.pth"]
    assert len(web.asked) == 1


def test_where_hashes_cannot_be_noted_weights_are_used_all_the_same(
    spec: WeightSpec, web: Web, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home.mkdir()
    (home / "config").write_text("a file in the way", encoding="utf-8")
    found = by(spec, web.url("ok"), size=0, sha256="unpinned")
    with pytest.raises(WeightsError, match="cannot read"):
        get(found)
    (home / "config").unlink()
    (home / "config").mkdir()
    (home / "config" / "pins.lock").mkdir()
    with caplog.at_level(logging.WARNING):
        assert get(found).read_bytes() == web.content
    assert "cannot be noted" in caplog.text
