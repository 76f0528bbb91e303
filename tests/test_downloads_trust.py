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


def test_what_is_here_is_not_asked_for_again_and_not_used_if_it_is_damaged(
    spec: WeightSpec, web: Web
) -> None:
    found = by(spec, web.url("ok"))
    path = get(found)
    assert get(found) == path and len(web.asked) == 1
    assert state_of(found, verify=True) is State.VERIFIED
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


@pytest.mark.parametrize("way", ["page", "wrong", "another network"])
def test_what_is_no_checkpoint_of_the_network_is_never_pinned(
    way: str, spec: WeightSpec, web: Web
) -> None:
    found, fault = by(spec, web.url("ok"), size=0, sha256="unpinned"), "is not a weights file"
    wrong = dataclasses.replace(found, urls=(web.url(way),))
    if way == "another network":
        other = dataclasses.replace(spec.model, num_blocks=(2, 1, 1, 1))
        wrong, fault = dataclasses.replace(found, model=other), "does not fit the network"
    with pytest.raises(WeightsError, match=fault):
        get(wrong)
    assert pinned("tiny") is None
    assert get(found).exists()


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


def test_a_folder_of_ones_own_gets_the_published_file_from_the_cache_too(
    spec: WeightSpec, web: Web, tmp_path: Path
) -> None:
    found = by(spec, web.url("ok"))
    path = get(found, folder=tmp_path / "mine")
    assert path == tmp_path / "mine" / "tiny.pth" and path.read_bytes() == web.content
    assert get(found, folder=tmp_path / "mine") == path
    assert len(web.asked) == 1
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="already exists"):
        get(found, folder=tmp_path / "mine")
    get(found)
    copy = get(found, folder=tmp_path / "other", offline=True)
    assert copy.read_bytes() == web.content and len(web.asked) == 2
    assert [file.name for file in copy.parent.iterdir()] == ["tiny.pth"]


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
