"""Weights files: every container gives the same network, hostile ones give one clear error."""

from __future__ import annotations

import collections
import dataclasses
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffir_cli.errors import CheckpointError
from diffir_cli.models.diffir.checkpoint import (
    load_checkpoint,
    load_model,
    load_stage1,
    load_state,
    rebuild,
    save_weights,
)
from diffir_cli.models.diffir.config import ModelConfig, Tail
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.models.diffir.official_names import infer_config
from diffir_cli.weights.registry import read_registry
from tests.conftest import TINY
from tests.golden_fill import official_state


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return official_state("inpaint_celeba")


@pytest.fixture(scope="module")
def expected(official: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> DiffIRS2:
    path = tmp_path_factory.mktemp("expected") / "flat.pth"
    torch.save(official, path)
    return load_model(path)


def _assert_same(found: DiffIRS2, expected: DiffIRS2) -> None:
    assert found.config == expected.config
    for (key, value), other in zip(
        found.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), key


def _containers(state: dict[str, Tensor]) -> dict[str, Any]:
    wrong = {key: torch.zeros(1) for key in state}
    return {
        "params_ema before params": {"params": wrong, "params_ema": state},
        "params alone": {"params": state},
        "module prefix": {"params_ema": {f"module.{key}": v for key, v in state.items()}},
        "lightning": {
            "epoch": 3,
            "state_dict": {
                **{f"generator.{key}": value for key, value in state.items()},
                "generatorS1.E.E.0.weight": torch.zeros(3),
                "discriminator.model0.0.weight": torch.zeros(3),
            },
        },
        "ordered": collections.OrderedDict(state),
    }


@pytest.mark.parametrize(
    "kind", ["params_ema before params", "params alone", "module prefix", "lightning", "ordered"]
)
def test_every_container_gives_the_same_network(
    kind: str, official: dict[str, Tensor], expected: DiffIRS2, tmp_path: Path
) -> None:
    torch.save(_containers(official)[kind], tmp_path / "net.pth")
    _assert_same(load_model(tmp_path / "net.pth"), expected)


def test_a_lightning_file_with_unknown_classes_is_read_without_them(
    official: dict[str, Tensor], expected: DiffIRS2, tmp_path: Path
) -> None:
    module = types.ModuleType("vanished_library")

    class ModelCheckpoint:
        pass

    class Config(dict[str, Any]):
        pass

    for kind in (ModelCheckpoint, Config):
        kind.__module__, kind.__qualname__ = "vanished_library", kind.__name__
        setattr(module, kind.__name__, kind)
    sys.modules["vanished_library"] = module
    try:
        callback = ModelCheckpoint()
        callback.best = 3  # type: ignore[attr-defined]
        content = {
            "callbacks": {ModelCheckpoint: {"best": callback}},
            "hyper_parameters": Config(a=1),
            "state_dict": {f"generator.{key}": value for key, value in official.items()},
        }
        torch.save(content, tmp_path / "last.ckpt")
    finally:
        del sys.modules["vanished_library"]
    _assert_same(load_model(tmp_path / "last.ckpt"), expected)


def test_twins_that_differ_are_refused(official: dict[str, Tensor], tmp_path: Path) -> None:
    key = "diffusion.condition.E.0.weight"
    torch.save({**official, key: official[key] + 1}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"two different copies of 'condition\.E\.0\.weight'"):
        load_model(tmp_path / "net.pth")


def test_a_file_of_twins_alone_is_enough(
    official: dict[str, Tensor], expected: DiffIRS2, tmp_path: Path
) -> None:
    kept = {k: v for k, v in official.items() if not k.startswith(("condition.", "denoise."))}
    torch.save({"params": kept}, tmp_path / "net.pth")
    checkpoint = load_checkpoint(tmp_path / "net.pth", expected.config)
    model = rebuild(checkpoint)
    assert isinstance(model, DiffIRS2)
    _assert_same(model, expected)


@pytest.mark.parametrize("buffer", ["betas", "posterior_mean_coef1"])
def test_another_noise_schedule_is_refused(
    buffer: str, official: dict[str, Tensor], tmp_path: Path
) -> None:
    key = f"diffusion.{buffer}"
    torch.save({**official, key: official[key] * 0.9}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="noise schedule"):
        load_model(tmp_path / "net.pth", read_registry()["inpaint-celeba"].model)


def test_missing_surplus_and_misshaped_keys_are_counted_and_named(
    s2: DiffIRS2, tmp_path: Path
) -> None:
    state = {f"module.{key}": value for key, value in s2.state_dict().items()}
    for gone in list(state)[5:9]:
        del state[gone]
    state["module.cpen.surprise"] = torch.zeros(1)
    state["module.denoiser.layers.0.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "net.pth", s2.config)
    assert "4 missing (" in caught.value.message and ", …)" in caught.value.message
    assert "1 surplus (cpen.surprise)" in caught.value.message
    assert "1 misshaped (denoiser.layers.0.bias [3] instead of [32])" in caught.value.message


def test_a_stage_1_file_given_as_stage_2_is_named_so(s1_file: Path, s2_file: Path) -> None:
    with pytest.raises(CheckpointError, match="stage-1 network") as caught:
        load_model(s1_file)
    assert "weights of stage 2" in caught.value.hint
    with pytest.raises(CheckpointError, match="stage-2 network"):
        load_stage1(s2_file)


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name, spec in read_registry().items()
        if spec.family == "diffir" and not spec.embedded
    ),
)
def test_the_configuration_is_inferred_from_names_and_shapes(name: str) -> None:
    """For every official network, of both stages; ours say in their header what they are."""
    config = read_registry()[name].model
    for kind in (DiffIRS1, DiffIRS2):
        with torch.device("meta"):
            shapes = kind(config).state_dict()
        assert infer_config(shapes, {}, Path(name)) == config


@pytest.mark.parametrize(
    "prior",
    [
        {},
        {"in_channels": 6},
        {"in_channels": 6, "gated": True},
        {"in_channels": 4, "prefill": True, "coherence_fill": True, "gated": True},
    ],
)
@pytest.mark.parametrize("tail", list(Tail))
def test_the_tail_the_prior_and_the_gate_are_inferred_from_shapes(
    tail: Tail, prior: dict[str, Any]
) -> None:
    config = dataclasses.replace(TINY, tail=tail, scale=1, **prior)
    with torch.device("meta"):
        shapes = DiffIRS2(config).state_dict()
    found = infer_config(shapes, {}, Path("file"))
    assert (found.tail, found.in_channels, found.gated) == (tail, config.in_channels, config.gated)
    assert found.coherence_fill is config.coherence_fill
    if config.coherence_fill:
        assert found.prefill and found.residual


def test_weights_survive_the_way_through_safetensors_and_cannot_be_trained_by_mistake(
    s2: DiffIRS2, s2_file: Path, tmp_path: Path
) -> None:
    model = load_model(s2_file)
    _assert_same(model, s2)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert load_checkpoint(s2_file).metadata["name"] == "tiny"
    save_weights(tmp_path / "half.safetensors", s2, {}, half=True)
    for key, value in load_state(tmp_path / "half.safetensors").items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, s2.state_dict()[key], atol=1e-4, rtol=1e-3)
    with pytest.raises(CheckpointError, match=r"cannot read .*nowhere"):
        load_model(tmp_path / "nowhere.pth")


def test_a_configuration_given_by_hand_decides(s2: DiffIRS2, s2_file: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        load_model(s2_file, ModelConfig())
    assert load_model(s2_file, s2.config).config == s2.config


def test_weights_too_large_for_fp16_are_not_stored_so(s2: DiffIRS2, tmp_path: Path) -> None:
    with torch.no_grad():
        next(s2.parameters()).fill_(1e6)
    with pytest.raises(CheckpointError, match="cannot be stored"):
        save_weights(tmp_path / "half.safetensors", s2, {}, half=True)
    assert not list(tmp_path.iterdir())
    save_weights(tmp_path / "full.safetensors", s2, {})


def test_half_of_a_network_is_refused(official: dict[str, Tensor], tmp_path: Path) -> None:
    kept = {key: value for key, value in official.items() if not key.startswith("G.")}
    torch.save(kept, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="does not show which"):
        load_model(tmp_path / "net.pth")


def test_a_pickle_cannot_change_the_builders(
    official: dict[str, Tensor], expected: DiffIRS2, tmp_path: Path
) -> None:
    # BUILD with slot state on torch's own function would set its defaults.
    evil = (
        b"\x80\x02cvanished\nThing\n0ctorch._utils\n_rebuild_tensor_v2\n"
        b"N}X\x0c\x00\x00\x00__defaults__K\x01K\x02\x86s\x86b."
    )
    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as file:
        file.writestr("net/data.pkl", evil)
        file.writestr("net/version", "3")
        file.writestr("net/byteorder", "little")
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "evil.pth")
    assert torch._utils._rebuild_tensor_v2.__defaults__ == (None,)
    torch.save(official, tmp_path / "net.pth")
    _assert_same(load_model(tmp_path / "net.pth"), expected)
