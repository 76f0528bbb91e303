"""Weights over a network that drops, stalls, lies and redirects: the right file, or an error."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from diffir_cli.config import ModelConfig, Task
from diffir_cli.downloads.cache import State, find_installed, state_of, weights_folder
from diffir_cli.downloads.decisions import pinned
from diffir_cli.downloads.obtain import Means, obtain
from diffir_cli.downloads.stream import Patience
from diffir_cli.errors import ChecksumError, WeightsError
from diffir_cli.registry import WeightSpec
from tests.web import Web, served

HASTY = Patience(connect=2, read=0.4, attempts=3, pause=0.01, slowest=1000, window=0.3)


pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def content(published: Path) -> bytes:
    """A checkpoint in the form of the official ones."""
    return published.read_bytes()


@pytest.fixture
def spec(content: bytes, tiny: ModelConfig) -> WeightSpec:
    return WeightSpec(
        name="tiny",
        task=Task.SR,
        scale=4,
        summary="A tiny one",
        license="CC0-1.0",
        source="https://example.org/tiny",
        file="tiny.pth",
        model=tiny,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def by(spec: WeightSpec, *urls: str, **changes: Any) -> WeightSpec:
    return dataclasses.replace(spec, urls=urls, **changes)


def get(spec: WeightSpec, **how: Any) -> Path:
    return obtain(spec, Means(patience=HASTY, **how))


def test_a_download_is_whole_and_has_its_name_last(spec: WeightSpec, web: Web) -> None:
    told: list[tuple[int, int]] = []
    path = weights_folder(spec) / "tiny.pth"

    def tell(here: int, whole: int) -> None:
        assert not path.exists()
        told.append((here, whole))

    assert get(by(spec, web.url("ok")), tell=tell) == path
    assert path.read_bytes() == web.content
    assert told[-1] == (len(web.content), len(web.content))
    assert {file.name for file in path.parent.iterdir()} == {"tiny.pth"}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "way",
    [
        "dropping",
        "rangeless",
        "stalling",
        "elsewhere",
        "changing",
        "replaced",
        "busy",
        "unsaid",
        "cut",
    ],
)
def test_what_a_network_does_to_a_file_is_made_good(
    way: str, known: bool, spec: WeightSpec, web: Web
) -> None:
    found = by(spec, web.url(way))
    if not known:
        found = dataclasses.replace(found, size=0, sha256="unpinned")
    if way == "elsewhere":
        found = by(found, web.url(way), web.url("ok"))
    assert get(found).read_bytes() == web.content


def test_a_broken_download_goes_on_where_it_was(spec: WeightSpec, web: Web) -> None:
    get(by(spec, web.url("dropping")))
    ranges = [headers.get("range") for headers in web.asked_for("dropping")]
    fifth = len(web.content) // 5 + 1
    assert ranges[:3] == [None, f"bytes={fifth}-", f"bytes={2 * fifth}-"]
    assert all(headers["accept-encoding"] == "identity" for headers in web.asked_for("dropping"))


def test_a_process_that_dies_leaves_a_part_with_which_the_next_goes_on(
    spec: WeightSpec, web: Web
) -> None:
    def die(here: int, _whole: int) -> None:
        if here:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(by(spec, web.url("dropping")), tell=die)
    part = weights_folder(spec) / "tiny.pth.part"
    size = part.stat().st_size
    assert 0 < size < len(web.content)
    assert find_installed(spec) is None
    get(by(spec, web.url("dropping")))
    assert web.asked_for("dropping")[1]["range"] == f"bytes={size}-"


def test_a_part_that_was_tampered_with_is_fetched_again(spec: WeightSpec, web: Web) -> None:
    def die(here: int, _whole: int) -> None:
        if here:
            raise KeyboardInterrupt

    found = by(spec, web.url("dropping"))
    with pytest.raises(KeyboardInterrupt):
        get(found, tell=die)
    part = weights_folder(spec) / "tiny.pth.part"
    part.write_bytes(bytes(part.stat().st_size))
    assert get(found).read_bytes() == web.content


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("dead", "the connection broke off"),
        ("dripping", "too slow"),
        ("gone", "404"),
        ("packed", "packs the file"),
        ("lying", "instead of"),
        ("page", "34 bytes instead of"),
        ("endless", "sends more than"),
        ("circling", "redirects more than 10 times"),
        ("leaving", "no web address"),
        ("continuing", "did not answer in time"),
        ("heading", "did not answer in time|got more than"),
        ("bracket", "cannot be asked|no web address"),
        ("nowhere", "without saying where to"),
        ("digits", "."),
        ("escaping", r"answered 404 \]0;pwned"),
    ],
)
def test_what_cannot_be_made_good_is_one_error_and_nothing_is_left(
    way: str, said: str, spec: WeightSpec, web: Web
) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsError, match=said) as caught:
        get(by(spec, web.url(way)))
    assert time.monotonic() - started < 20
    assert web.url(way) in caught.value.message
    assert "diffir download-weights tiny --from tiny.pth" in caught.value.hint
    assert find_installed(spec) is None
    assert not (weights_folder(spec) / "tiny.pth").exists()


def test_lines_behind_the_end_of_a_file_hold_nobody(spec: WeightSpec, web: Web) -> None:
    started = time.monotonic()
    assert get(by(spec, web.url("trailing"))).read_bytes() == web.content
    assert time.monotonic() - started < 5


def test_a_page_on_the_way_does_not_cost_what_is_there(spec: WeightSpec, web: Web) -> None:
    with pytest.raises(WeightsError, match="instead of"):
        get(by(spec, web.url("portal")))
    part = weights_folder(spec) / "tiny.pth.part"
    assert part.stat().st_size == len(web.content) // 5 + 1
    assert get(by(spec, web.url("portal"))).read_bytes() == web.content
    assert web.asked_for("portal")[2]["range"] == f"bytes={len(web.content) // 5 + 1}-"


def test_a_disk_without_room_for_a_file_of_unknown_size_is_said(
    spec: WeightSpec, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 2**24 + len(web.content) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, free))
    with pytest.raises(WeightsError, match="more bytes are needed"):
        get(by(spec, web.url("ok"), size=0, sha256="unpinned"))
    assert not (weights_folder(spec) / "tiny.pth.part").exists()


def test_a_server_that_is_not_there_is_one_error(spec: WeightSpec) -> None:
    with pytest.raises(WeightsError, match="no connection"):
        get(by(spec, "http://127.0.0.1:1/tiny.pth"))


def test_a_wrong_file_is_refused_and_not_kept(spec: WeightSpec, web: Web) -> None:
    with pytest.raises(ChecksumError, match="is another file"):
        get(by(spec, web.url("wrong")))
    assert not list(weights_folder(spec).glob("tiny*"))


def test_the_second_address_is_asked_when_the_first_fails(spec: WeightSpec, web: Web) -> None:
    urls = [web.url(way) for way in ("gone", "wrong", "page", "ok")]
    assert get(by(spec, *urls)).read_bytes() == web.content
    assert [path.split("/")[1] for path, _ in web.asked] == ["gone", "wrong", "page", "ok"]


def test_the_name_is_the_registrys_whatever_the_server_says(
    spec: WeightSpec, web: Web, home: Path
) -> None:
    for way in ("named", "moved"):
        path = get(by(spec, web.url(way)))
        assert path == weights_folder(spec) / "tiny.pth"
        assert path.read_bytes() == web.content
        shutil.rmtree(path.parent)
    assert not list(home.parent.rglob("evil*"))
    assert not list(home.parent.rglob("other-name*"))


def test_two_processes_make_one_download(spec: WeightSpec, web: Web) -> None:
    found = by(spec, web.url("ok"))
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(get(found))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert len(set(paths)) == 1
    assert len(web.asked) == 1


def test_a_part_of_another_file_and_an_end_that_is_missing_are_both_made_good(
    spec: WeightSpec, web: Web
) -> None:
    found = by(spec, web.url("cut"), size=0)
    part = weights_folder(spec) / "tiny.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"of another file")
    note = {"url": web.url("cut"), "etag": web.etag, "modified": ""}
    part.with_name("tiny.pth.part.json").write_text(json.dumps(note), encoding="utf-8")
    assert get(found).read_bytes() == web.content


def test_a_disk_that_is_too_small_is_said_before_anything_is_asked(
    spec: WeightSpec, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(WeightsError, match="1 are free"):
        get(by(spec, web.url("ok")))
    assert not web.asked


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
    with pytest.raises(WeightsError, match="is no weights file"):
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
    with pytest.raises(WeightsError, match="nothing may be downloaded") as caught:
        obtain(by(spec, web.url("ok")), Means())
    for fact in (spec.file, f"{spec.size:,}", spec.sha256, spec.source, str(weights_folder(spec))):
        assert fact in caught.value.hint
    assert not web.asked


def test_a_file_that_was_put_there_by_hand_is_found_offline(
    spec: WeightSpec, content: bytes
) -> None:
    folder = weights_folder(spec)
    folder.mkdir(parents=True)
    (folder / spec.file).write_bytes(content)
    assert obtain(spec, Means(offline=True)) == folder / spec.file


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


def test_proxies_come_from_the_environment(
    spec: WeightSpec, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web.address)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert get(by(spec, "http://example.invalid/ok/tiny.pth")).read_bytes() == web.content
    assert web.asked[0][0] == "http://example.invalid/ok/tiny.pth"


@pytest.fixture
def secure(content: bytes, tmp_path: Path) -> Iterator[tuple[Web, Path]]:
    """A server with a certificate that nobody trusts yet, and that certificate."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    chain, trusted = tmp_path / "chain.pem", tmp_path / "authority.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(chain))
    authority.cert_pem.write_to_path(str(trusted))
    with served(content, (str(chain), str(chain))) as web:
        yield web, trusted


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_https_is_trusted_with_the_certificates_of_the_environment_alone(
    name: str,
    spec: WeightSpec,
    secure: tuple[Web, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    web, trusted = secure
    with pytest.raises(WeightsError, match="certificate cannot be trusted"):
        get(by(spec, web.url("ok")))
    monkeypatch.setenv(name, str(trusted))
    assert get(by(spec, web.url("ok"))).read_bytes() == web.content


def test_certificates_that_are_not_where_they_should_be_are_named(
    spec: WeightSpec, secure: tuple[Web, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    with pytest.raises(WeightsError, match=r"/nowhere/certificates\.pem"):
        get(by(spec, secure[0].url("ok")))


def test_a_handshake_that_breaks_is_tried_again(spec: WeightSpec) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    met: list[str] = []

    def hang_up() -> None:
        with suppress(OSError):
            while True:
                connection, (address, _) = listener.accept()
                met.append(address)
                connection.close()

    threading.Thread(target=hang_up, daemon=True).start()
    with listener, pytest.raises(WeightsError, match=r"no connection|broke off") as caught:
        get(by(spec, f"https://127.0.0.1:{listener.getsockname()[1]}/tiny.pth"))
    assert "certificate" not in caught.value.message
    assert len(met) == HASTY.attempts


def test_https_never_falls_back_to_http(
    spec: WeightSpec, secure: tuple[Web, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    web, trusted = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with pytest.raises(WeightsError, match="from https to http"):
        get(by(spec, web.url("insecure")))


def test_google_drive_goes_through_gdown(
    spec: WeightSpec, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gdown = pytest.importorskip("gdown")

    def download(*, id: str, output: str, quiet: bool) -> str:
        assert (id, quiet) == ("abc123", True)
        Path(output).write_bytes(content)
        return output

    import inspect

    assert {"id", "output", "quiet"} <= set(inspect.signature(gdown.download).parameters)
    monkeypatch.setattr(gdown, "download", download)
    assert get(by(spec, "gdrive:abc123")).read_bytes() == content


def test_google_drive_without_gdown_says_what_to_do_by_hand(
    spec: WeightSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(WeightsError, match=r"pip install 'diffir\[gdrive\]'") as caught:
        get(by(spec, "gdrive:abc123"))
    assert spec.source in caught.value.hint
    assert "--from tiny.pth" in caught.value.hint


def test_a_folder_of_ones_own_gets_the_published_file(
    spec: WeightSpec, web: Web, tmp_path: Path
) -> None:
    path = get(by(spec, web.url("ok")), folder=tmp_path / "mine")
    assert path == tmp_path / "mine" / "tiny.pth"
    assert path.read_bytes() == web.content
    assert get(by(spec, web.url("ok")), folder=tmp_path / "mine") == path
    assert len(web.asked) == 1
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="exists already"):
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
