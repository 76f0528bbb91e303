"""Our networks compute what the official ones compute, for weights that anybody can regenerate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffir_cli.models.diffir.checkpoint import load_checkpoint, rebuild
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from tests.golden_fill import NAMES, arrays, description, official_state

Network = DiffIRS1 | DiffIRS2
# Each network is built once and used by several tests.
pytestmark = [pytest.mark.xdist_group("parity"), pytest.mark.numerics]


@pytest.fixture(scope="module", params=NAMES)
def golden(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Network]:
    path: Path = tmp_path_factory.mktemp("official") / "net_g.pth"
    torch.save({"params_ema": official_state(request.param)}, path)
    return request.param, rebuild(load_checkpoint(path))


def _inputs(name: str) -> tuple[Tensor, Tensor]:
    data = arrays(name)
    second = next(data[key] for key in ("x_T", "gt", "image") if key in data)
    return data["input"], second


def _expected_ipr(name: str) -> Tensor:
    data = arrays(name)
    return data["Z_steps"][-1] if "Z_steps" in data else data["Z"]


def test_the_output_equals_the_official_one_in_fp32(golden: tuple[str, Network]) -> None:
    name, model = golden
    expected = arrays(name)["out"]
    with torch.no_grad():
        found = model(*_inputs(name))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_ipr_equals_the_official_one_in_fp32(golden: tuple[str, Network]) -> None:
    name, model = golden
    with torch.no_grad():
        found = model.ipr(*_inputs(name))
    assert (found - _expected_ipr(name)).abs().max() <= 1e-5


def test_the_output_equals_the_official_one_in_fp64(golden: tuple[str, Network]) -> None:
    name, model = golden
    expected = arrays(name)["out"]
    with torch.no_grad():
        found = model.double()(*(tensor.double() for tensor in _inputs(name)))
    model.float()
    assert (found - expected).abs().max() <= 4e-6 * expected.abs().max()


def test_the_condition_and_every_step_equal_the_official_ones(golden: tuple[str, Network]) -> None:
    """The sampler's path, not only its end."""
    name, model = golden
    if isinstance(model, DiffIRS1):
        pytest.skip("stage 1 has no sampler")
    data = arrays(name)
    with torch.no_grad():
        condition = model.condition(data["input"])
        torch.testing.assert_close(condition, data["D"], atol=1e-5, rtol=0)
        x_t = data["x_T"]
        for place, t in enumerate((3, 2, 1, 0)):
            estimate = model.denoiser(x_t, t, condition)
            torch.testing.assert_close(estimate, data["x0_steps"][place], atol=1e-5, rtol=0)
            x_t = model.schedule.posterior_mean(estimate, x_t, t)
            torch.testing.assert_close(x_t, data["Z_steps"][place], atol=1e-5, rtol=0)


def test_parameters_are_counted_as_officially(golden: tuple[str, Network]) -> None:
    name, model = golden
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == description(name)["param_count"]
