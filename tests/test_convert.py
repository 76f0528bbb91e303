"""`diffir convert` writes weights files of any family as safetensors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from diffir_cli.models.resshift.config import MaskRule, Prediction, ResShiftConfig
from diffir_cli.models.resshift.family import FAMILY
from diffir_cli.models.resshift.networks.swin_layer import (
    SwinBlock,
    relative_position_index,
    shift_mask,
)
from tests.conftest import run_cli
from tests.download_helpers import home as home
from tests.resshift_helpers import FILLING, NARROW, entry, official_files

SINSR = replace(NARROW, steps=15, min_noise_level=0.04, timesteps=(14,))
PIXELS = replace(NARROW, latent=False, unshuffle=4, prediction=Prediction.RESIDUAL)
FACES = replace(NARROW, scale=1, latent_channels=8, ae_multipliers=(1, 2, 2), ae_blocks=(1, 1, 1))


def test_convert_writes_a_file_that_needs_no_configuration(
    photo: Path, s2_file: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.safetensors"
    assert run_cli("convert", s2_file, half, "--half").exit_code == 0
    assert half.stat().st_size < 0.6 * s2_file.stat().st_size
    assert run_cli("restore", photo, "-o", tmp_path / "out.png", "-w", half).exit_code == 0
    assert run_cli("convert", s2_file, half).exit_code == 3
    result = run_cli("convert", s2_file, "-o", half, "--overwrite", "--json")
    found = json.loads(result.stdout)
    assert found["output"] == str(half) and found["bytes"] == half.stat().st_size
    assert result.stderr == ""


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return {**file.metadata(), "config": json.loads(file.metadata()["config"])}


def tensors_of(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def files_of(folder: Path, config: ResShiftConfig) -> dict[str, Path]:
    """A narrow model in files as they are published, with the masks of its windows among them."""
    denoiser = FAMILY.build(config).network.denoiser
    state = {f"module.{name}": value for name, value in denoiser.state_dict().items()}
    for name, block in denoiser.named_modules():
        if isinstance(block, SwinBlock):
            state[f"module.{name}.attn.relative_position_index"] = relative_position_index(8)
            if block.shift:
                state[f"module.{name}.attn_mask"] = shift_mask(16, 16, 8, MaskRule.STANDARD)
    files = official_files(folder, config) if config.latent else {}
    files["denoiser"] = folder / "denoiser.pth"
    torch.save({"state_dict": state}, files["denoiser"])
    return files


def registry_of(folder: Path, **models: tuple[ResShiftConfig, dict[str, Path]]) -> Path:
    path = folder / "registry.toml"
    path.write_text("".join(entry(name, *model) for name, model in models.items()))
    return path


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("config", [NARROW, SINSR, PIXELS, FACES, FILLING])
@pytest.mark.parametrize("half", [False, True])
def test_both_networks_of_a_resshift_model_are_converted(
    config: ResShiftConfig, half: bool, tmp_path: Path
) -> None:
    files = files_of(tmp_path, config)
    chosen = ("--registry", registry_of(tmp_path, narrow=(config, files)))
    converted = {}
    for component, path in files.items():
        out = converted[component] = tmp_path / f"{component}.safetensors"
        done = run_cli("convert", path, "-o", out, *chosen, "--json", *["--half"] * half)
        assert done.exit_code == 0, done.output
        original = FAMILY.build(config).network.get_submodule(component).state_dict()
        numbers = sum(tensor.numel() for tensor in original.values())
        found = json.loads(done.stdout)
        assert (found["family"], found["component"]) == ("resshift", component)
        assert found["parameters"] == numbers and found["bytes"] == out.stat().st_size
        header, tensors = header_of(out), tensors_of(out)
        assert header["source_file"] == path.name and header["component"] == component
        assert (header["name"], header["source"]) == ("narrow", "here")
        assert tensors.keys() == original.keys()
        assert {value.dtype for value in tensors.values()} == {
            torch.float16 if half else torch.float32
        }
    # What stored masks say takes the place of the registry's rule.
    as_trained = replace(config, mask=MaskRule.STANDARD)
    assert ResShiftConfig.from_dict(header_of(converted["denoiser"])["config"]) == as_trained
    lq, noise = torch.rand(1, config.lq_channels, 64, 64), torch.Generator().manual_seed(0)
    results = []
    for paths in (files, converted):
        network = FAMILY.load(paths, config).network
        fields = torch.randn(
            network.schedule.steps + 1, 1, *network.noise_shape(64, 64)[1:], generator=noise
        )
        noise.manual_seed(0)
        with torch.no_grad():
            results.append(network.sample(network.encode(lq), lq, fields))
    torch.testing.assert_close(*results, atol=0.05 if half else 1e-4, rtol=0)


@pytest.mark.usefixtures("home")
def test_a_converted_file_is_converted_again_without_a_registry(tmp_path: Path) -> None:
    files = files_of(tmp_path, SINSR)
    registry = registry_of(tmp_path, narrow=(SINSR, files))
    first, second = (tmp_path / f"{name}.safetensors" for name in "ab")
    done = run_cli("convert", files["denoiser"], "-o", first, "--registry", registry)
    assert done.exit_code == 0, done.output
    assert run_cli("convert", first, "-o", second).exit_code == 0
    assert header_of(first)["config"] == header_of(second)["config"]
    assert header_of(second)["config"]["timesteps"] == [14]


@pytest.mark.usefixtures("home")
def test_a_pixel_model_is_usable_as_it_is_converted(photo: Path, tmp_path: Path) -> None:
    files = files_of(tmp_path, PIXELS)
    registry = registry_of(tmp_path, narrow=(PIXELS, files))
    out = tmp_path / "out.safetensors"
    assert run_cli("convert", files["denoiser"], "-o", out, "--registry", registry).exit_code == 0
    done = run_cli("restore", photo, "-o", tmp_path / "out.png", "-w", out)
    assert done.exit_code == 0, done.output


@pytest.mark.usefixtures("home")
def test_a_denoiser_of_several_models_needs_a_name(tmp_path: Path) -> None:
    files = files_of(tmp_path, NARROW)
    renamed = shutil.copy(files["denoiser"], tmp_path / "mine.pth")
    state = torch.load(renamed)["state_dict"]
    torch.save(state, renamed)  # another hash
    chosen = ("--registry", registry_of(tmp_path, four=(NARROW, files), one=(SINSR, files)))
    out = tmp_path / "out.safetensors"
    done = run_cli("convert", renamed, "-o", out, *chosen)
    assert done.exit_code == 4 and done.stderr.count("error:") == 1
    assert "networks of several models have these shapes" in done.stderr
    assert "--weights NAME" in done.stderr and not out.exists()
    assert run_cli("convert", renamed, "-o", out, *chosen, "-w", "one").exit_code == 0
    assert header_of(out)["config"]["timesteps"] == [14]
    # An autoencoder is the same in both.
    done = run_cli("convert", files["autoencoder"], "-o", out, *chosen, "--overwrite")
    assert done.exit_code == 0, done.output


@pytest.mark.usefixtures("home")
def test_what_cannot_be_converted_is_one_line(s2_file: Path, tmp_path: Path) -> None:
    files = files_of(tmp_path, NARROW)
    state = torch.load(files["denoiser"])["state_dict"]
    wide = dict.fromkeys(state, torch.zeros(1))
    broken = {
        "short.pth": dict(list(state.items())[:-40]),
        "wide.pth": wide,
        "nan.pth": {key: value.float() * torch.nan for key, value in state.items()},
        "other.pth": {"conv.weight": torch.zeros(2, 2)},
    }
    for name, content in broken.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "cut.pth").write_bytes(files["denoiser"].read_bytes()[:5000])
    chosen = ("--registry", registry_of(tmp_path, narrow=(NARROW, files)))
    out = tmp_path / "out.safetensors"
    for source in [*(tmp_path / name for name in broken), tmp_path / "cut.pth"]:
        done = run_cli("convert", source, "-o", out, *chosen)
        assert done.exit_code == 4 and done.stderr.count("error:") == 1, done.output
        assert source.name in done.stderr and "hint:" in done.stderr and not out.exists()
    assert "its end is missing" in done.stderr
    for source, name, fault in (
        (s2_file, "narrow", "is the model of a diffir network, which narrow does not have"),
        (files["denoiser"], "sr-x4", "is the denoiser of a resshift network, which sr-x4"),
        (files["denoiser"], "resshift-realsr-x4", "does not fit the SwinUNet"),
        (files["denoiser"], "narow", "no weights named 'narow'"),
    ):
        done = run_cli("convert", source, "-o", out, *chosen, "-w", name)
        assert done.exit_code == 4 and fault in done.stderr, done.output
        assert not out.exists()
