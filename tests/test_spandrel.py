"""DiffIR in spandrel: the same pictures as ours, from our files and the official containers."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffir_cli.errors import CheckpointError
from diffir_cli.models.diffir.checkpoint import load_model, save_weights
from diffir_cli.models.diffir.networks import DiffIRS1
from diffir_cli.options import Engine, RunOptions, Task
from diffir_cli.runtime.loading import load_runner
from diffir_cli.weights.locate import locate_weights
from diffir_cli.weights.registry import read_registry
from tests.conftest import noise_image
from tests.golden_fill import official_state


def _without_torchvision() -> None:
    """Let spandrel be imported where there is no torchvision: two of its architectures name it."""
    if importlib.util.find_spec("torchvision"):
        return
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = [types.ModuleType(name) for name in names]
    for name in ("InterpolationMode", "rotate", "normalize"):
        setattr(modules[-1], name, None)
    sys.modules.update(zip(names, modules, strict=True))


if importlib.util.find_spec("spandrel"):
    _without_torchvision()
spandrel: Any = pytest.importorskip("spandrel")


@pytest.fixture
def loader() -> Any:
    from diffir_cli.integrations.spandrel import install

    install()
    install()
    return spandrel.ModelLoader()


EMBEDDED = [spec.name for spec in read_registry().values() if spec.embedded]


@pytest.mark.parametrize("name", EMBEDDED)
def test_our_files_give_the_pictures_that_they_give_here(name: str, loader: Any) -> None:
    spec = read_registry()[name]
    model = loader.load_from_file(spec.path)
    assert model.architecture.id == "DiffIR"
    assert (model.scale, model.input_channels, model.output_channels) == (spec.scale, 3, 3)
    purpose = {Task.INPAINT: "Inpainting", Task.DEBLUR: "Restoration"}.get(spec.task, "SR")
    assert model.purpose == purpose
    # Below 64 pixels there is no shake to look for.
    height, width = (96, 80) if spec.task is Task.DEBLUR else (37, 45)
    lq = noise_image(height, width)
    image = torch.from_numpy(lq.astype(np.float32) / 255).permute(2, 0, 1)[None]
    mask = np.zeros((height, width), np.bool_)
    mask[5:15, 20:30] = True
    here = load_runner(
        locate_weights(name, spec.task), spec.task, RunOptions("cpu", engine=Engine.REFERENCE)
    )
    if spec.task is Task.INPAINT:
        hq = model(image, torch.from_numpy(mask)[None, None].float())
        expected = here.restore(lq.astype(np.float32) / 255, mask=mask)
    else:
        hq = model(image)
        expected = here.restore(lq.astype(np.float32) / 255)
    found = hq[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    path = tmp_path_factory.mktemp("expected") / "flat.pth"
    torch.save(official_state("inpaint_celeba"), path)
    return load_model(path)


@pytest.mark.parametrize("container", ["params_ema", "flat", "module.", "lightning"])
def test_official_containers_are_recognised(
    container: str, expected: torch.nn.Module, loader: Any, tmp_path: Path
) -> None:
    state = official_state("inpaint_celeba")
    path = tmp_path / "official.pth"
    contents: dict[str, dict[str, Any]] = {
        "params_ema": {"params_ema": state},
        "flat": state,
        "module.": {"params_ema": {f"module.{name}": value for name, value in state.items()}},
        "lightning": {"state_dict": {f"generator.{name}": value for name, value in state.items()}},
    }
    torch.save(contents[container], path)
    model = loader.load_from_file(path)
    assert model.architecture.id == "DiffIR"
    assert model.purpose == "Inpainting"
    for name, value in model.model.network.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])


def test_stage_1_is_refused_with_a_reason(s1: DiffIRS1, loader: Any, tmp_path: Path) -> None:
    save_weights(tmp_path / "s1.safetensors", s1, {})
    with pytest.raises(CheckpointError, match="stage-1 network"):
        loader.load_from_file(tmp_path / "s1.safetensors")


def test_other_networks_are_left_to_others(loader: Any) -> None:
    from diffir_cli.integrations.spandrel import is_diffir

    assert not is_diffir({"model.0.weight": torch.zeros(1)})
    assert not is_diffir({"E.0.weight": torch.zeros(1), "conv.bias": torch.zeros(1)})
    with pytest.raises(spandrel.UnsupportedModelError):
        loader.load_from_state_dict({"some.weight": torch.zeros(1)})


def test_half_precision_is_refused_and_another_device_kept(s2: Any, loader: Any) -> None:
    model = loader.load_from_state_dict(s2.state_dict())
    with pytest.raises(spandrel.UnsupportedDtypeError):
        model.half()
    assert model.device == torch.device("cpu")
    assert not model.model.training
