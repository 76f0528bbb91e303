"""Checkpoints that were downloaded by hand, and `diffir convert`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from diffir_cli.models.diffir.checkpoint import load_checkpoint
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from tests.conftest import noise_image, run_cli, succeeded
from tests.download_helpers import download, entry, states

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize("named", [True, False])
def test_a_file_downloaded_by_hand_is_installed_as_safetensors(
    named: bool, official: Path, tiny: ModelConfig, tmp_path: Path, home: Path
) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text(entry(tiny, sha256="unpinned"), encoding="utf-8")
    arguments = ("--registry", registry)
    succeeded(download(*(["tiny"] if named else []), "--from", official, *arguments))
    (path,) = (home / "cache" / "weights" / "tiny").glob("tiny-*.safetensors")
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    original = hashlib.sha256(official.read_bytes()).hexdigest()
    assert (header["source_sha256"], header["source_file"]) == (original, "by hand.pth")
    assert (header["task"], header["license"]) == ("sr", "CC0-1.0")
    assert states("--verify", *arguments)["tiny"] == "verified"
    photo = tmp_path / "in.png"
    Image.fromarray(noise_image(12, 12)).save(photo)
    succeeded(
        run_cli("restore", photo, "-w", "tiny", *arguments, "-d", "cpu", "-o", tmp_path / "o.png")
    )
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    assert states("--verify", *arguments)["tiny"] == "corrupt"
    # Another file is not taken for it any more.
    torch.save({"params": {}}, official)
    refused = download("tiny", "--from", official, *arguments)
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
    result = succeeded(
        download("--from", official.rename(tmp_path / "two.pth"), "--registry", registry)
    )
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
    succeeded(run_cli("convert", tmp_path / "state.pt", out))
    checkpoint = load_checkpoint(out)
    assert checkpoint.config == s2.config
    for key, value in s2.state_dict().items():
        torch.testing.assert_close(checkpoint.tensors[key], value, rtol=0, atol=0)


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


def test_an_import_takes_the_place_of_another_and_counts_while_the_registry_promises_its_source(
    official: Path, tiny: ModelConfig, tmp_path: Path, home: Path
) -> None:
    registry = tmp_path / "registry.toml"
    for license_ in ("CC0-1.0", "MIT"):
        registry.write_text(entry(tiny, license=license_), encoding="utf-8")
        assert download("tiny", "--from", official, "--registry", registry).exit_code == 0
        assert states("--registry", registry)["tiny"] == "cached"
        assert states("--registry", registry, "--verify")["tiny"] == "verified"
    assert len(list((home / "cache" / "weights" / "tiny").iterdir())) == 1
    registry.write_text(entry(tiny, sha256="0" * 64), encoding="utf-8")
    assert states("--registry", registry)["tiny"] == "missing"


@pytest.mark.parametrize("kind", ["pipe", "device", "absent"])
def test_what_is_no_file_is_not_imported(kind: str, registry: Path, tmp_path: Path) -> None:
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero"), "absent": tmp_path / "x"}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    for names in ((), ("tiny",)):
        result = download(*names, "--from", path, "--registry", registry)
        assert result.exit_code == 3
        assert "no such file" in result.stderr
