"""ResShift's networks compute what the official ones compute, for synthetic weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diffir_cli.models.resshift.checkpoint import (
    Component,
    load_autoencoder,
    load_denoiser,
    load_model,
    recognise,
)
from diffir_cli.models.resshift.config import REALSR_V3, MaskRule
from diffir_cli.models.resshift.diffusion import ChainStep
from diffir_cli.models.resshift.inferred_config import infer_config
from diffir_cli.models.resshift.networks import SwinUNet, VQAutoencoder
from tests.resshift_golden import arrays, cases, config_of, keys, lq_of, networks, official_state

# Each network is built once and used by several tests.
pytestmark = pytest.mark.xdist_group("resshift-parity")

DENOISER_TOLERANCE = 1.5e-5
"""Kernels for AVX-512 differ by 5e-6 from the official run, kernels for AVX2 by 9e-6, of outputs
whose deviation is 0.5."""
LATENT_TOLERANCE = 1e-5
"""2e-6 and 5e-6."""
DECODER_TOLERANCE = 6e-5
"""3e-5 with both."""
SAFE_MARGIN = 1e-4
"""Positions whose best and second best code are nearer than this may get either."""


@pytest.fixture(scope="module", params=networks("unet"))
def unet(request: pytest.FixtureRequest) -> tuple[str, SwinUNet]:
    state = official_state(request.param)
    return request.param, load_denoiser(state, config_of(request.param, state))


@pytest.fixture(scope="module", params=networks("vq"))
def vq(request: pytest.FixtureRequest) -> tuple[str, VQAutoencoder]:
    state = official_state(request.param)
    return request.param, load_autoencoder(state, config_of(request.param, state))


def _close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), atol=tolerance, rtol=0)


def test_files_of_both_networks_are_found() -> None:
    assert networks("unet")
    assert networks("vq")


@pytest.mark.parametrize("name", [*networks("unet"), *networks("vq")])
def test_a_golden_network_is_recognised_by_its_names(name: str) -> None:
    names = {entry["key"]: torch.empty(0) for entry in keys(name)}
    expected = Component.DENOISER if name.startswith("unet") else Component.AUTOENCODER
    assert recognise(names) is expected


def test_the_denoiser_and_its_blocks_equal_the_official_ones(unet: tuple[str, SwinUNet]) -> None:
    name, network = unet
    for case in cases(name).values():
        seen: dict[str, Tensor] = {}
        probes = {key.split("/")[1] for key in case if key.startswith("act/")}
        hooks = [_keep(network, probe, seen) for probe in probes]
        with torch.no_grad():
            found = network(case["x"], case["t"], lq_of(case, network.config))
        for hook in hooks:
            hook.remove()
        _close(found, case["out"], DENOISER_TOLERANCE)
        for probe, feature in seen.items():
            assert list(feature.shape) == case[f"act/{probe}/shape"].tolist()
            _close(feature[0, 0, :8, :8], case[f"act/{probe}/ch0_8x8"], 5e-5)
            mean, std = case[f"act/{probe}/mean_std"].tolist()
            assert float(feature.mean()) == pytest.approx(mean, abs=1e-4)
            assert float(feature.std()) == pytest.approx(std, rel=1e-4)


def _keep(network: SwinUNet, probe: str, seen: dict[str, Tensor]) -> Any:
    def hook(_module: torch.nn.Module, _arguments: Any, output: Tensor) -> None:
        seen[probe] = output

    return network.get_submodule(probe).register_forward_hook(hook)


def test_the_mask_rule_is_read_from_the_official_buffers(unet: tuple[str, SwinUNet]) -> None:
    _, network = unet
    assert network.config.mask is MaskRule.LEGACY
    assert network.config.resolution == 64


def test_the_encoder_equals_the_official_one(vq: tuple[str, VQAutoencoder]) -> None:
    name, network = vq
    for case in cases(name).values():
        with torch.no_grad():
            _close(network.encode(case["x"]), case["z"], LATENT_TOLERANCE)


def test_codes_equal_the_official_ones_where_they_are_no_ties(
    vq: tuple[str, VQAutoencoder],
) -> None:
    name, network = vq
    for case in cases(name).values():
        with torch.no_grad():
            found = network.quantize.indices(case["z"])
            rounded = network.quantize(case["z"])
        safe = (case["code_margin"] >= SAFE_MARGIN).view(found.shape)
        assert torch.equal(found[safe], case["indices"].view(found.shape)[safe].long())
        vectors = (rounded.movedim(1, -1)[safe], case["zq"].movedim(1, -1)[safe])
        _close(*vectors, 1e-6)


def test_the_decoder_equals_the_official_one(vq: tuple[str, VQAutoencoder]) -> None:
    name, network = vq
    for case in cases(name).values():
        with torch.no_grad():
            _close(network.decode(case["zq"], quantise=False), case["dec"], DECODER_TOLERANCE)
            _close(
                network.decode(case["z"], quantise=False), case["dec_noquant"], DECODER_TOLERANCE
            )


@pytest.mark.slow
def test_four_steps_from_an_image_to_an_image_equal_the_official_ones() -> None:
    """Interpolation, encoder, chain and decoder, with every latent in between."""
    golden = arrays("e2e_sr_x4_s4")
    states = {
        Component.DENOISER: official_state("unet_sr_x4"),
        Component.AUTOENCODER: official_state("vq_f4"),
    }
    config = infer_config(REALSR_V3, states[Component.DENOISER], states[Component.AUTOENCODER])
    assert config == REALSR_V3
    model = load_model(config, states)
    steps: list[ChainStep] = []
    assert model.autoencoder is not None
    codebook = model.autoencoder.quantize
    rounded = codebook.embedding(golden["indices"].long().view(1, 64, 64)).movedim(-1, 1)
    with torch.no_grad():
        y0 = model.encode(golden["lq"])
        _close(y0, golden["z_y"], LATENT_TOLERANCE)
        x0 = model.sample(y0, golden["lq"], golden["noise"], steps.append)
        image = model.autoencoder.decode(rounded, quantise=False)
    assert [step.done for step in steps] == [1, 2, 3, 4]
    for step, sample, x0_hat in zip(steps, golden["samples"], golden["pred_x0"], strict=True):
        _close(step.x, sample, DENOISER_TOLERANCE)
        _close(step.x0, x0_hat, DENOISER_TOLERANCE)
    flipped = codebook.indices(x0).flatten() != golden["indices"]
    assert not (flipped & (golden["code_margin"] >= SAFE_MARGIN)).any()
    _close(image, golden["out_preclamp"], DECODER_TOLERANCE)
