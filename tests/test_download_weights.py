"""`diffir download-weights`, and the commands that use what it brings."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.weights.registry import read_registry
from tests.conftest import run_cli, succeeded
from tests.download_helpers import download, entry, states
from tests.processes import exit_code, start_command
from tests.web import Web

pytestmark = pytest.mark.usefixtures("home")


def test_the_list_names_all_weights_with_licence_and_state(registry: Path) -> None:
    result = succeeded(download("--list", "--registry", registry))
    for name in read_registry():
        assert name in result.stdout
    assert "Apache-2.0" in result.stdout
    known = states("--registry", registry)
    assert known["sr-x4-lite"] == "embedded"
    assert known["sr-x4"] == "missing"
    assert known["tiny"] == "missing"
    assert set(states("--task", "deblur")) == {
        "deblur-lite",
        "deblur-gopro",
        "deblur-gopro-s1",
        "resshift-deblur-gopro",
    }


def test_a_download_passes_through_its_states(registry: Path, web: Web, home: Path) -> None:
    options = ("--registry", registry)
    result = succeeded(download("tiny", *options))
    assert "downloading tiny" in result.stderr
    assert "CC0-1.0" in result.stderr
    assert states(*options)["tiny"] == "cached"
    assert states("--verify", *options)["tiny"] == "verified"
    path = home / "cache" / "weights" / "tiny" / "tiny.pth"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    broken = download("--verify", *options)
    assert broken.exit_code == 4
    assert "damaged: tiny" in broken.stderr
    assert download("--remove", "tiny", *options).exit_code == 0
    assert states(*options)["tiny"] == "missing"
    assert len(web.asked) == 1


def test_restore_and_batch_download_on_first_use_and_say_so(
    registry: Path, web: Web, photo: Path, s2_file: Path, tmp_path: Path
) -> None:
    options = ("--registry", registry, "-w", "tiny", "-d", "cpu")
    assert (
        run_cli("restore", photo, *options, "-o", tmp_path / "no.png", "--no-download").exit_code
        == 4
    )
    assert not (tmp_path / "no.png").exists()
    result = succeeded(run_cli("restore", photo, *options, "-o", tmp_path / "out.png"))
    assert "downloading tiny" in result.stderr
    again = succeeded(run_cli("batch", photo, *options, "-o", tmp_path / "out", "--no-download"))
    assert "downloading" not in again.stderr
    assert len(web.asked) == 1
    run_cli("restore", photo, "-w", s2_file, "-d", "cpu", "-o", tmp_path / "file.png")
    own = np.asarray(Image.open(tmp_path / "file.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), own)


def test_an_official_name_without_a_network_says_what_to_do_by_hand(
    photo: Path, home: Path
) -> None:
    for result in (
        download("realsr-x4-v2", "--offline"),
        run_cli("restore", photo, "-w", "realsr-x4-v2", "--no-download"),
    ):
        assert result.exit_code == 4
        assert "realsr-x4-v2 is not on this machine, and downloads are off" in result.stderr
        assert read_registry()["realsr-x4-v2"].source in result.stderr
        command = "diffir download-weights realsr-x4-v2 --from RealworldSR-DiffIRS2-GANx4-V2.pth"
        assert command in result.stderr
        assert str(home / "cache" / "weights" / "realsr-x4-v2") in result.stderr


def test_an_entry_without_an_address_says_what_to_do_by_hand(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    (tmp_path / "registry.toml").write_text(entry(tiny), encoding="utf-8")
    result = download("tiny", "--registry", tmp_path / "registry.toml", "--json")
    assert result.exit_code == 4
    assert "tiny is not on this machine and has no direct download link" in result.stderr
    assert "no direct download link" in json.loads(result.stdout)["error"]
    assert "--from tiny.pth" in result.stderr


def test_a_teacher_is_refused_for_restoring_before_it_is_downloaded(photo: Path) -> None:
    result = run_cli("restore", photo, "-w", "sr-x4-s1")
    assert result.exit_code == 4
    assert "'sr-x4-s1' are of stage 1" in result.stderr and "sr-x4-lite" in result.stderr


def test_a_teacher_is_installed_by_its_name_or_told_from_its_file(
    tiny: ModelConfig, s1_file: Path, s2_file: Path, tmp_path: Path
) -> None:
    registry = tmp_path / "registry.toml"
    teacher = entry(tiny, "tiny-s1", component="stage1")
    registry.write_text(entry(tiny) + teacher, encoding="utf-8")
    wrong = download("tiny-s1", "--from", s2_file, "--registry", registry)
    assert wrong.exit_code == 4 and "holds a stage-2 network" in wrong.stderr
    for arguments in ((), ("tiny-s1",)):
        done = download(*arguments, "--from", s1_file, "--registry", registry)
        assert done.exit_code == 0 and "is tiny-s1" in done.stderr, done.output
    assert states("--registry", registry)["tiny-s1"] == "cached"
    assert states("--registry", registry)["tiny"] == "missing"


def test_one_that_cannot_be_had_does_not_stop_the_others(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)
    result = download("--task", "sr", "--registry", registry, "--json")
    assert result.exit_code == 4
    wording = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["name"]: "path" in line for line in wording} == {
        "sr-x4-lite": True,
        "sr-x4": False,
        "sr-x2": False,
        "sr-x4-psnr": False,
        "sr-x4-s1": False,
        "resshift-sr-x4": False,
        "tiny": True,
    }


def test_urls_are_printed_for_other_programs(registry: Path, web: Web) -> None:
    result = download("tiny", "sr-x4", "--print-urls", "--registry", registry)
    assert result.stdout.splitlines() == [web.url("ok")]
    assert f"sr-x4 has no direct link: {read_registry()['sr-x4'].source}" in result.stderr
    assert not web.asked


def test_removing_what_is_not_there_or_not_removable_is_an_error(registry: Path) -> None:
    assert "is not on this machine" in download("--remove", "sr-x4").stderr
    assert "is part of this package" in download("--remove", "sr-x4-lite").stderr
    assert download("--remove", "tiny", "--registry", registry).exit_code == 4


def test_embedded_weights_can_be_had_as_files(tmp_path: Path) -> None:
    succeeded(download("sr-x4-lite", "--dir", tmp_path / "mine"))
    spec = read_registry()["sr-x4-lite"]
    assert (tmp_path / "mine" / spec.file).read_bytes() == spec.path.read_bytes()


def test_a_scale_chooses_the_weights(photo: Path, tmp_path: Path, registry: Path) -> None:
    options = ("restore", photo, "-d", "cpu", "-o", tmp_path / "out.png", "--overwrite")
    assert run_cli(*options, "-s", 4).exit_code == 0
    assert Image.open(tmp_path / "out.png").size == (80, 48)
    absent = run_cli(*options, "-s", 2, "--no-download")
    assert absent.exit_code == 4
    assert "realsr-x2 is not on this machine, and downloads are off" in absent.stderr
    none = run_cli(*options, "-s", 2, "--task", "deblur")
    assert none.exit_code == 4
    assert "use --scale 1" in none.stderr
    assert run_cli(*options, "-s", 4, "-w", "tiny", "--registry", registry).exit_code == 2


@pytest.mark.parametrize("way", ["import", "by hand", "download"])
def test_no_way_leads_past_a_licence_or_a_change_of_it(
    way: str, official: Path, tiny: ModelConfig, web: Web, tmp_path: Path, home: Path
) -> None:
    registry = tmp_path / "registry.toml"
    options: tuple[Any, ...] = ("tiny", "--registry", registry)
    if way == "import":
        options = (*options, "--from", official)
    if way == "by hand":
        folder = home / "cache" / "weights" / "tiny"
        folder.mkdir(parents=True)
        shutil.copy(official, folder / "tiny.pth")
    for license_ in ("CC-BY-NC-4.0", "Proprietary"):
        fields: dict[str, Any] = {"urls": [web.url("ok")], "accept": True, "license": license_}
        registry.write_text(entry(tiny, **fields), encoding="utf-8")
        refused = download(*options)
        assert refused.exit_code == 4
        assert license_ in refused.stderr
        assert "--accept-license tiny" in refused.stderr
        assert download(*options, "--accept-license", "tiny").exit_code == 0
        assert license_ in (home / "config" / "accepted.toml").read_text(encoding="utf-8")
        assert download(*options).exit_code == 0


def test_a_group_is_removed_as_far_as_it_is_there(registry: Path, home: Path) -> None:
    assert download("tiny", "--registry", registry).exit_code == 0
    succeeded(download("--remove", "--all", "--registry", registry))
    assert states("--registry", registry)["tiny"] == "missing"
    assert not list((home / "cache" / "weights").iterdir())


def test_json_says_what_failed_even_of_one(registry: Path) -> None:
    result = download("realsr-x4", "--json", "--offline")
    assert result.exit_code == 4
    assert "downloads are off" in json.loads(result.stdout)["error"]
    assert download("tiny", "--verify", "--registry", registry).exit_code == 4


def test_files_of_decisions_that_are_damaged_are_one_error(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    for text in ("x[", 'sr-x4 = "abc"'):
        (home / "config" / "pins.toml").write_text(text, encoding="utf-8")
        result = download("--list")
        assert result.exit_code == 4
        assert "pins.toml is damaged" in result.stderr
    (home / "config" / "pins.toml").write_text("[sr-x4]\nsince = 2026-11-21", encoding="utf-8")
    assert download("--list").exit_code == 0


def test_removing_waits_for_nobody_and_takes_nothing_from_a_download(
    tiny: ModelConfig, web: Web, tmp_path: Path, home: Path
) -> None:
    registry = tmp_path / "registry.toml"
    sha256 = hashlib.sha256(web.content).hexdigest()
    promised: dict[str, Any] = {"size": len(web.content), "sha256": sha256}
    registry.write_text(entry(tiny, urls=[web.url("waiting")], **promised), encoding="utf-8")
    nowhere, command = Path(os.devnull), ("download-weights", "tiny", "--registry", registry)
    here = {"DIFFIR_HOME": str(home)}
    processes = [
        start_command(*command, stdout=nowhere, stderr=nowhere, environment=here) for _ in range(2)
    ]
    part = home / "cache" / "weights" / "tiny" / "tiny.pth.part"
    deadline = time.monotonic() + 300
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    refused = download("--remove", "tiny", "--registry", registry)
    web.released.set()
    assert refused.exit_code == 4
    assert "another process is using" in refused.stderr
    assert [exit_code(process) for process in processes] == [0, 0]
    assert len(web.asked) == 1
    assert states("--verify", "--registry", registry)["tiny"] == "verified"
