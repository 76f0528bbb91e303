"""`diffir download-weights`, and the commands that use what it brings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from typer.testing import Result

from diffir_cli.checkpoint import load_checkpoint
from diffir_cli.config import ModelConfig
from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.official import schedule_buffers
from diffir_cli.registry import read_registry
from tests.conftest import noise_image, run_cli
from tests.web import ENVIRONMENT, Web, served


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def published(s2: DiffIRS2, tmp_path: Path) -> Path:
    """A checkpoint in the form of the official ones."""
    path = tmp_path / "published.pth"
    torch.save({"params_ema": s2.state_dict()}, path)
    return path


@pytest.fixture
def web(published: Path) -> Iterator[Web]:
    with served(published.read_bytes()) as web:
        yield web


def entry(model: ModelConfig, name: str = "tiny", **fields: Any) -> str:
    """An entry of a registry."""
    values = {
        "task": "sr",
        "scale": 4,
        "summary": "A tiny one",
        "license": "CC0-1.0",
        "source": "https://example.org/tiny",
        "file": f"{name}.pth",
        **fields,
    }
    lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    lines += [f"[{name}.model]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in model.to_dict().items()]
    return "\n".join(lines) + "\n"


@pytest.fixture
def registry(tiny: ModelConfig, web: Web, published: Path, tmp_path: Path) -> Path:
    """A registry with an entry whose file a server has."""
    sha256 = hashlib.sha256(published.read_bytes()).hexdigest()
    promised: dict[str, Any] = {"size": published.stat().st_size, "sha256": sha256}
    path = tmp_path / "registry.toml"
    path.write_text(entry(tiny, urls=[web.url("ok")], **promised), encoding="utf-8")
    return path


def download(*arguments: object) -> Result:
    return run_cli("download-weights", *arguments)


def states(*arguments: object) -> dict[str, str]:
    listed = json.loads(download("--list", "--json", *arguments).stdout)
    return {found["name"]: found["state"] for found in listed["weights"]}


def test_the_list_names_all_weights_with_licence_and_state(registry: Path) -> None:
    result = download("--list", "--registry", registry)
    assert result.exit_code == 0
    for name in read_registry():
        assert name in result.stdout
    assert "Apache-2.0" in result.stdout
    known = states("--registry", registry)
    assert known["sr-x4-lite"] == "embedded"
    assert known["sr-x4"] == "missing"
    assert known["tiny"] == "missing"
    assert set(states("--task", "deblur")) == {"deblur-lite", "deblur-gopro"}


def test_every_official_checkpoint_is_listed_with_its_page() -> None:
    official = {spec.name: spec for spec in read_registry().values() if not spec.embedded}
    realsr = {f"realsr-x{scale}{kind}" for scale in (1, 2, 4) for kind in ("", "-v2")}
    inpaint = {"inpaint-celeba", "inpaint-places", "inpaint-places-big"}
    assert set(official) == {"sr-x2", "sr-x4", "deblur-gopro"} | realsr | inpaint
    for spec in official.values():
        assert spec.license
        assert spec.source.startswith("https://drive.google.com/drive/folders/")
        assert spec.sha256 == "unpinned"


def test_a_download_passes_through_its_states(registry: Path, web: Web, home: Path) -> None:
    how = ("--registry", registry)
    result = download("tiny", *how)
    assert result.exit_code == 0, result.output
    assert "downloading tiny" in result.stderr
    assert "CC0-1.0" in result.stderr
    assert states(*how)["tiny"] == "cached"
    assert states("--verify", *how)["tiny"] == "verified"
    path = home / "cache" / "weights" / "tiny" / "tiny.pth"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    broken = download("--verify", *how)
    assert broken.exit_code == 4
    assert "damaged: tiny" in broken.stderr
    assert download("--remove", "tiny", *how).exit_code == 0
    assert states(*how)["tiny"] == "missing"
    assert len(web.asked) == 1


def test_restore_and_batch_download_on_first_use_and_say_so(
    registry: Path, web: Web, s2_file: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "in.png"
    Image.fromarray(noise_image(12, 12)).save(photo)
    how = ("--registry", registry, "-w", "tiny", "-d", "cpu")
    assert (
        run_cli("restore", photo, *how, "-o", tmp_path / "no.png", "--no-download").exit_code == 4
    )
    assert not (tmp_path / "no.png").exists()
    result = run_cli("restore", photo, *how, "-o", tmp_path / "out.png")
    assert result.exit_code == 0, result.output
    assert "downloading tiny" in result.stderr
    again = run_cli("batch", photo, *how, "-o", tmp_path / "out", "--no-download")
    assert again.exit_code == 0, again.output
    assert "downloading" not in again.stderr
    assert len(web.asked) == 1
    run_cli("restore", photo, "-w", s2_file, "-d", "cpu", "-o", tmp_path / "file.png")
    own = np.asarray(Image.open(tmp_path / "file.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), own)


def test_an_official_name_without_a_link_says_what_to_do_by_hand(tmp_path: Path) -> None:
    photo = tmp_path / "in.png"
    Image.fromarray(noise_image(12, 12)).save(photo)
    for result in (
        download("realsr-x4"),
        run_cli("restore", photo, "--task", "realsr", "-w", "realsr-x4", "-o", tmp_path / "o.png"),
    ):
        assert result.exit_code == 4
        assert "no direct link to realsr-x4 is known" in result.stderr
        assert read_registry()["realsr-x4"].source in result.stderr
        assert "--from RealworldSR-DiffIRS2-GANx4.pth" in result.stderr


def test_one_that_cannot_be_had_does_not_stop_the_others(registry: Path) -> None:
    result = download("--task", "sr", "--registry", registry, "--json")
    assert result.exit_code == 4
    said = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["name"]: "path" in line for line in said} == {
        "sr-x4-lite": True,
        "sr-x4": False,
        "sr-x2": False,
        "tiny": True,
    }


@pytest.fixture
def official(tiny: ModelConfig, s2: DiffIRS2, tmp_path: Path) -> Path:
    """A file with what only official ones have: the schedule's buffers."""
    from diffir_cli.diffusion import NoiseSchedule

    buffers = schedule_buffers(NoiseSchedule.of(tiny))
    state = {**s2.state_dict(), **{f"diffusion.{key}": value for key, value in buffers.items()}}
    path = tmp_path / "by hand.pth"
    torch.save({"params": state}, path)
    return path


@pytest.mark.parametrize("named", [True, False])
def test_a_file_downloaded_by_hand_is_installed_as_safetensors(
    named: bool, official: Path, tiny: ModelConfig, tmp_path: Path, home: Path
) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text(entry(tiny, sha256="unpinned"), encoding="utf-8")
    how = ("--registry", registry)
    result = download(*(["tiny"] if named else []), "--from", official, *how)
    assert result.exit_code == 0, result.output
    (path,) = (home / "cache" / "weights" / "tiny").glob("tiny-*.safetensors")
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    original = hashlib.sha256(official.read_bytes()).hexdigest()
    assert (header["source_sha256"], header["source_file"]) == (original, "by hand.pth")
    assert (header["task"], header["license"]) == ("sr", "CC0-1.0")
    assert states("--verify", *how)["tiny"] == "verified"
    photo = tmp_path / "in.png"
    Image.fromarray(noise_image(12, 12)).save(photo)
    restored = run_cli("restore", photo, "-w", "tiny", *how, "-d", "cpu", "-o", tmp_path / "o.png")
    assert restored.exit_code == 0, restored.output
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    assert states("--verify", *how)["tiny"] == "corrupt"
    # Another file is not taken for it any more.
    torch.save({"params": {}}, official)
    refused = download("tiny", "--from", official, *how)
    assert refused.exit_code == 4
    assert "is not the file of tiny" in refused.stderr


def test_a_file_that_fits_several_names_is_not_guessed(
    official: Path, tiny: ModelConfig, tmp_path: Path
) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text(entry(tiny, "one") + entry(tiny, "two"), encoding="utf-8")
    result = download("--from", official, "--registry", registry)
    assert result.exit_code == 4
    assert "could be one or two" in result.stderr
    # Its name decides.
    result = download("--from", official.rename(tmp_path / "two.pth"), "--registry", registry)
    assert result.exit_code == 0
    assert "is two" in result.stderr


@pytest.mark.parametrize("kind", ["stage 1", "another network", "no network"])
def test_a_file_of_something_else_is_not_imported(
    kind: str, s1: DiffIRS1, tiny: ModelConfig, tmp_path: Path, home: Path
) -> None:
    registry, path = tmp_path / "registry.toml", tmp_path / "tiny.pth"
    registry.write_text(entry(tiny), encoding="utf-8")
    other = DiffIRS2(dataclasses.replace(tiny, num_blocks=(2, 1, 1, 1)))
    content = {"stage 1": s1.state_dict(), "another network": other.state_dict(), "no network": {}}
    torch.save({"params": content[kind]}, path)
    result = download("tiny", "--from", path, "--registry", registry)
    assert result.exit_code == 4
    assert {"stage 1": "stage-1", "another network": "does not fit", "no network": "no tensors"}[
        kind
    ] in result.stderr
    assert not list(home.rglob("*.safetensors"))
    assert not (home / "config" / "pins.toml").exists()


def test_the_users_registry_comes_before_ours(
    tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text(entry(tiny, "sr-x4", license="Mine"), encoding="utf-8")
    monkeypatch.setenv("DIFFIR_REGISTRY", str(registry))
    assert read_registry()["sr-x4"].license == "Mine"
    assert "Mine" in download("--list").stdout
    monkeypatch.delenv("DIFFIR_REGISTRY")
    assert read_registry()["sr-x4"].license != "Mine"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"file": "../../evil.pth"}, "bare name"),
        ({"file": "/etc/passwd"}, "bare name"),
        ({"file": ".bashrc"}, "bare name"),
        ({"urls": ["file:///etc/passwd"]}, "must begin with"),
        ({"urls": ["ftp://example.org/x"]}, "must begin with"),
        ({"urls": "https://example.org"}, "list of texts"),
        ({"sha256": "abc"}, "64 digits"),
        ({"size": -1}, "negative"),
        ({"size": "large"}, "whole number"),
        ({"task": "denoise"}, "denoise"),
        ({"scale": 2}, "scale 2"),
        ({"embedded": True}, "only the package"),
        ({"accept": "true"}, "true or false"),
        ({"file": "con.pth"}, "bare name"),
        ({"file": "ü" * 101}, "bare name"),
        ({"urls": ["GDRIVE:abc"]}, "must begin with"),
        ({"colour": "red"}, "no field 'colour'"),
    ],
)
def test_a_registry_with_a_fault_is_refused(
    fields: dict[str, Any], said: str, tiny: ModelConfig, tmp_path: Path
) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text(entry(tiny, **fields), encoding="utf-8")
    result = download("--list", "--registry", registry)
    assert result.exit_code == 4
    assert said in result.stderr
    assert "[tiny]" in result.stderr


@pytest.mark.parametrize("name", ["..", "a/b", "Tiny", "", "nul", "a."])
def test_a_name_is_never_a_path(name: str, tiny: ModelConfig, tmp_path: Path) -> None:
    registry = tmp_path / "registry.toml"
    text = entry(tiny).replace("[tiny", f'["{name}"')
    registry.write_text(text.replace("[tiny.model]", f'["{name}".model]'), encoding="utf-8")
    result = download("--list", "--registry", registry)
    assert result.exit_code == 4
    assert "its name must be" in result.stderr


def test_a_licence_is_agreed_to_once(
    tiny: ModelConfig, web: Web, tmp_path: Path, home: Path
) -> None:
    registry = tmp_path / "registry.toml"
    fields: dict[str, Any] = {"urls": [web.url("ok")], "accept": True, "license": "CC-BY-NC-4.0"}
    registry.write_text(entry(tiny, **fields), encoding="utf-8")
    refused = download("tiny", "--registry", registry)
    assert refused.exit_code == 4
    assert "--accept-license tiny" in refused.stderr
    agreed = download("tiny", "--registry", registry, "--accept-license", "tiny")
    assert agreed.exit_code == 0, agreed.output
    assert "CC-BY-NC-4.0" in (home / "config" / "accepted.toml").read_text(encoding="utf-8")
    shutil.rmtree(home / "cache")
    assert download("tiny", "--registry", registry).exit_code == 0


def test_urls_are_printed_for_other_programs(registry: Path, web: Web) -> None:
    result = download("tiny", "sr-x4", "--print-urls", "--registry", registry)
    assert result.stdout.splitlines() == [web.url("ok")]
    assert f"sr-x4 has no direct link: {read_registry()['sr-x4'].source}" in result.stderr
    assert not web.asked


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--all", "tiny"),
        ("--list", "--remove", "tiny"),
        ("--list", "--dir", "x"),
        ("--remove",),
        ("--from", "x", "--all"),
        ("--from", "x", "a", "b"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: tuple[str, ...]) -> None:
    assert download(*arguments).exit_code == 2


def test_removing_what_is_not_there_or_not_removable_is_an_error(registry: Path) -> None:
    assert "is not on this machine" in download("--remove", "sr-x4").stderr
    assert "is part of this package" in download("--remove", "sr-x4-lite").stderr
    assert download("--remove", "tiny", "--registry", registry).exit_code == 4


def test_embedded_weights_can_be_had_as_files(tmp_path: Path) -> None:
    result = download("sr-x4-lite", "--dir", tmp_path / "mine")
    assert result.exit_code == 0, result.output
    spec = read_registry()["sr-x4-lite"]
    assert (tmp_path / "mine" / spec.file).read_bytes() == spec.path.read_bytes()


def test_convert_says_where_a_file_comes_from_and_loading_needs_nothing_else(
    official: Path, tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text(entry(tiny), encoding="utf-8")
    monkeypatch.setenv("DIFFIR_REGISTRY", str(registry))
    out = tmp_path / "out.safetensors"
    assert run_cli("convert", official, out).exit_code == 0
    checkpoint = load_checkpoint(out)
    assert checkpoint.config == tiny
    assert checkpoint.metadata["task"] == "sr"
    # A network of the same shape may be anybody's.
    assert "license" not in checkpoint.metadata
    original = hashlib.sha256(official.read_bytes()).hexdigest()
    assert checkpoint.metadata["source_sha256"] == original
    registry.write_text(entry(tiny, sha256=original), encoding="utf-8")
    assert run_cli("convert", official, out, "--overwrite").exit_code == 0
    assert load_checkpoint(out).metadata["license"] == "CC0-1.0"


def test_a_training_state_is_converted_to_its_averaged_network(
    s2: DiffIRS2, tmp_path: Path
) -> None:
    state = {
        "digest": "x",
        "config": json.dumps(s2.config.to_dict()),
        "iteration": 3,
        "model": {key: value + 1 for key, value in s2.state_dict().items()},
        "average": s2.state_dict(),
        "optimizer": {"state": {}, "param_groups": []},
    }
    torch.save(state, tmp_path / "state.pt")
    out = tmp_path / "out.safetensors"
    result = run_cli("convert", tmp_path / "state.pt", out)
    assert result.exit_code == 0, result.output
    checkpoint = load_checkpoint(out)
    assert checkpoint.config == s2.config
    for key, value in s2.state_dict().items():
        torch.testing.assert_close(checkpoint.tensors[key], value, rtol=0, atol=0)


def test_a_scale_chooses_the_weights(tmp_path: Path, registry: Path) -> None:
    photo = tmp_path / "in.png"
    Image.fromarray(noise_image(12, 12)).save(photo)
    how = ("restore", photo, "-d", "cpu", "-o", tmp_path / "out.png", "--overwrite")
    assert run_cli(*how, "-s", 4).exit_code == 0
    assert Image.open(tmp_path / "out.png").size == (48, 48)
    absent = run_cli(*how, "-s", 2)
    assert absent.exit_code == 4
    assert "no direct link to sr-x2 is known" in absent.stderr
    none = run_cli(*how, "-s", 2, "--task", "deblur")
    assert none.exit_code == 4
    assert "there are --scale 1" in none.stderr
    assert run_cli(*how, "-s", 4, "-w", "tiny", "--registry", registry).exit_code == 2


def test_a_file_with_the_name_of_an_import_is_none(
    official: Path, registry: Path, home: Path, tmp_path: Path
) -> None:
    folder = home / "cache" / "weights" / "tiny"
    folder.mkdir(parents=True)
    out = tmp_path / "other.safetensors"
    assert run_cli("convert", official, out).exit_code == 0
    for name in ("tiny.safetensors", "tiny-0123456789ab.safetensors"):
        shutil.copy(out, folder / name)
    assert states("--registry", registry)["tiny"] == "missing"
    assert download("tiny", "--registry", registry, "--offline").exit_code == 4


def test_an_import_counts_only_while_the_registry_promises_what_it_was_made_of(
    official: Path, tiny: ModelConfig, tmp_path: Path
) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text(entry(tiny), encoding="utf-8")
    assert download("tiny", "--from", official, "--registry", registry).exit_code == 0
    assert states("--registry", registry)["tiny"] == "cached"
    registry.write_text(entry(tiny, sha256="0" * 64), encoding="utf-8")
    assert states("--registry", registry)["tiny"] == "missing"


def test_a_second_import_takes_the_place_of_the_first(
    official: Path, tiny: ModelConfig, tmp_path: Path, home: Path
) -> None:
    registry = tmp_path / "registry.toml"
    for license_ in ("CC0-1.0", "MIT"):
        registry.write_text(entry(tiny, license=license_), encoding="utf-8")
        assert download("tiny", "--from", official, "--registry", registry).exit_code == 0
        assert states("--registry", registry, "--verify")["tiny"] == "verified"
    assert len(list((home / "cache" / "weights" / "tiny").iterdir())) == 1


@pytest.mark.parametrize("way", ["import", "by hand", "download"])
def test_no_way_leads_past_a_licence_or_a_change_of_it(
    way: str, official: Path, tiny: ModelConfig, web: Web, tmp_path: Path, home: Path
) -> None:
    registry = tmp_path / "registry.toml"
    how: tuple[Any, ...] = ("tiny", "--registry", registry)
    if way == "import":
        how = (*how, "--from", official)
    if way == "by hand":
        folder = home / "cache" / "weights" / "tiny"
        folder.mkdir(parents=True)
        shutil.copy(official, folder / "tiny.pth")
    for license_ in ("CC-BY-NC-4.0", "Proprietary"):
        fields: dict[str, Any] = {"urls": [web.url("ok")], "accept": True, "license": license_}
        registry.write_text(entry(tiny, **fields), encoding="utf-8")
        refused = download(*how)
        assert refused.exit_code == 4
        assert license_ in refused.stderr
        assert download(*how, "--accept-license", "tiny").exit_code == 0
        assert download(*how).exit_code == 0


@pytest.mark.parametrize("kind", ["pipe", "device", "absent"])
def test_what_is_no_file_is_not_imported(kind: str, registry: Path, tmp_path: Path) -> None:
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero"), "absent": tmp_path / "x"}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    for names in ((), ("tiny",)):
        result = download(*names, "--from", path, "--registry", registry)
        assert result.exit_code == 3
        assert "no such file" in result.stderr


def test_a_group_is_removed_as_far_as_it_is_there(registry: Path, home: Path) -> None:
    assert download("tiny", "--registry", registry).exit_code == 0
    result = download("--remove", "--all", "--registry", registry)
    assert result.exit_code == 0, result.output
    assert states("--registry", registry)["tiny"] == "missing"
    assert not list((home / "cache" / "weights").iterdir())


def test_json_says_what_failed_even_of_one(registry: Path) -> None:
    result = download("realsr-x4", "--json")
    assert result.exit_code == 4
    assert "no direct link" in json.loads(result.stdout)["error"]
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
    program = [sys.executable, "-m", "diffir_cli", "download-weights", "tiny"]
    commands = [[*program, "--registry", str(registry)] for _ in range(2)]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for command in commands]
    part = home / "cache" / "weights" / "tiny" / "tiny.pth.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    refused = download("--remove", "tiny", "--registry", registry)
    web.released.set()
    assert refused.exit_code == 4
    assert "another process is at work" in refused.stderr
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(web.asked) == 1
    assert states("--verify", "--registry", registry)["tiny"] == "verified"
