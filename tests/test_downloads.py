"""Weights over a network that drops, stalls, lies and redirects: the right file, or an error."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from diffir_cli.errors import ChecksumError, WeightsError
from diffir_cli.weights.cache import find_installed, weights_folder
from diffir_cli.weights.registry import WeightSpec
from tests.download_helpers import HASTY, by, get
from tests.web import Web

pytestmark = pytest.mark.usefixtures("home")


def test_a_download_is_whole_and_has_its_name_last(spec: WeightSpec, web: Web) -> None:
    reporter: list[tuple[int, int]] = []
    path = weights_folder(spec) / "tiny.pth"

    def notify(here: int, whole: int) -> None:
        assert not path.exists()
        reporter.append((here, whole))

    assert get(by(spec, web.url("ok")), notify=notify) == path
    assert path.read_bytes() == web.content
    assert reporter[-1] == (len(web.content), len(web.content))
    assert {file.name for file in path.parent.iterdir()} == {"tiny.pth"}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "way",
    [
        *("dropping", "rangeless", "stalling", "elsewhere", "changing", "replaced", "busy"),
        *("unsaid", "cut"),
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


@pytest.mark.parametrize("tampered", [False, True])
def test_a_process_that_dies_leaves_a_part_with_which_the_next_goes_on_if_it_is_sound(
    tampered: bool, spec: WeightSpec, web: Web
) -> None:
    def die(here: int, _whole: int) -> None:
        if here:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(by(spec, web.url("dropping")), notify=die)
    part = weights_folder(spec) / "tiny.pth.part"
    size = part.stat().st_size
    assert 0 < size < len(web.content)
    assert find_installed(spec) is None
    if tampered:
        part.write_bytes(bytes(size))
    assert get(by(spec, web.url("dropping"))).read_bytes() == web.content
    assert web.asked_for("dropping")[1]["range"] == f"bytes={size}-"


@pytest.mark.parametrize(
    ("way", "wording"),
    [
        ("dead", "the connection broke off"),
        ("dripping", "too slow"),
        ("gone", "404"),
        ("packed", "compresses the file"),
        ("lying", "instead of"),
        ("page", "34 bytes instead of"),
        ("endless", "sends more than"),
        ("circling", "redirects more than 10 times"),
        ("leaving", "no web address"),
        ("continuing", "did not answer in time"),
        ("heading", "did not answer in time|got more than"),
        ("bracket", "no connection|no web address"),
        ("nowhere", "without saying where to"),
        ("digits", "."),
        ("escaping", r"answered 404 \]0;pwned"),
    ],
)
def test_what_cannot_be_made_good_is_one_error_and_nothing_is_left(
    way: str, wording: str, spec: WeightSpec, web: Web
) -> None:
    started = time.monotonic()
    # Where the error is that no answer comes in time, the time may be short.
    wait = 0.2 if "in time" in wording else HASTY.connect
    with pytest.raises(WeightsError, match=wording) as caught:
        get(by(spec, web.url(way)), retry=dataclasses.replace(HASTY, connect=wait))
    # Some seconds by the limits of `HASTY`; a busy machine may take many times as long.
    assert time.monotonic() - started < 120
    assert web.url(way) in caught.value.message
    assert "diffir download-weights tiny --from tiny.pth" in caught.value.hint
    assert find_installed(spec) is None
    assert not (weights_folder(spec) / "tiny.pth").exists()


def test_lines_behind_the_end_of_a_file_hold_nobody(spec: WeightSpec, web: Web) -> None:
    started = time.monotonic()
    assert get(by(spec, web.url("trailing"))).read_bytes() == web.content
    # The server would go on for ever.
    assert time.monotonic() - started < 120


def test_a_page_on_the_way_does_not_cost_what_is_there(spec: WeightSpec, web: Web) -> None:
    with pytest.raises(WeightsError, match="instead of"):
        get(by(spec, web.url("portal")))
    part = weights_folder(spec) / "tiny.pth.part"
    assert part.stat().st_size == len(web.content) // 5 + 1
    assert get(by(spec, web.url("portal"))).read_bytes() == web.content
    assert web.asked_for("portal")[2]["range"] == f"bytes={len(web.content) // 5 + 1}-"


def test_a_disk_without_room_is_said_before_anything_is_asked_where_the_size_is_known(
    spec: WeightSpec, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [1]
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, free[0])
    )
    with pytest.raises(WeightsError, match="1 are free"):
        get(by(spec, web.url("ok")))
    assert not web.asked
    free[0] = 2**24 + len(web.content) - 1
    with pytest.raises(WeightsError, match="more bytes are needed"):
        get(by(spec, web.url("ok"), size=0, sha256="unpinned"))
    assert not (weights_folder(spec) / "tiny.pth.part").exists()


def test_a_wrong_file_is_refused_and_not_kept_and_no_server_one_error(
    spec: WeightSpec, web: Web
) -> None:
    with pytest.raises(ChecksumError, match="is another file"):
        get(by(spec, web.url("wrong")))
    assert not list(weights_folder(spec).glob("tiny*"))
    with pytest.raises(WeightsError, match="no connection"):
        get(by(spec, "http://127.0.0.1:1/tiny.pth"))


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
