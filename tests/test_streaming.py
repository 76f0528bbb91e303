"""Strips give what the plain modules give: any network, any size, any strip height."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diffir_cli.models.diffir.config import ModelConfig, Norm, Tail
from diffir_cli.models.diffir.networks import DiffIRS2, DIRformer
from diffir_cli.models.diffir.networks.cpen import CPEN
from diffir_cli.models.diffir.streaming.condition import condition
from diffir_cli.models.diffir.streaming.dirformer import StreamingDIRformer
from diffir_cli.options import Engine, Precision
from tests.conftest import TINY, noise_image
from tests.runner_helpers import runner_of

pytestmark = pytest.mark.numerics


@st.composite
def _configs(draw: st.DrawFn) -> ModelConfig:
    tail = draw(st.sampled_from(list(Tail)))
    scale = draw(st.sampled_from([scale for scale in (1, 2, 4) if tail.factor % scale == 0]))
    channels = draw(st.sampled_from([3, 4, 6])) if scale == 1 else 3
    prefill, residual = channels == 4 and draw(st.booleans()), draw(st.booleans())
    coherence = prefill and draw(st.booleans())
    return ModelConfig(
        scale=scale,
        tail=tail,
        in_channels=channels,
        residual=residual,
        prefill=prefill,
        coherence_fill=coherence,
        gated=(channels == 6 or coherence) and residual and draw(st.booleans()),
        dim=draw(st.sampled_from([8, 16, 24])),
        num_blocks=draw(st.tuples(*[st.integers(0, 2)] * 4)),
        refinement_blocks=draw(st.integers(0, 2)),
        heads=draw(st.sampled_from([(1, 2, 4, 8), (2, 2, 4, 4)])),
        ffn_expansion=draw(st.sampled_from([1.5, 2.2, 2.66])),
        norm=draw(st.sampled_from(list(Norm))),
        cpen_dim=8,
        cpen_blocks=1,
    )


def _network(config: ModelConfig, dtype: torch.dtype) -> DIRformer:
    """Weights with which every norm and modulation has a say."""
    network = DIRformer(config).to(dtype).eval()
    for name, parameter in network.named_parameters():
        if "norm" in name or "temperature" in name:
            nn.init.normal_(parameter, 1, 0.3)
        if "scale_shift" in name:
            nn.init.normal_(parameter, 0.1, 0.3)
    return network


@given(
    config=_configs(),
    seed=st.integers(0, 2**31),
    sides=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    rows=st.sampled_from([1, 2, 3, 5, 8, 100]),
    double=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_any_network_at_any_size_with_any_strips_gives_what_the_plain_modules_give(
    config: ModelConfig, seed: int, sides: tuple[int, int], rows: int, double: bool
) -> None:
    torch.manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    network = _network(config, dtype)
    height, width = (config.multiple * side for side in sides)
    lq = torch.rand(1, config.in_channels, height, width, dtype=dtype)
    if config.in_channels == 4:
        lq[:, 3:] = (lq[:, 3:] > 0.6).to(dtype)
    ipr = torch.randn(1, config.ipr_dim, dtype=dtype)
    with torch.inference_mode():
        expected = network(lq, ipr)
    elements = rows * width // config.unshuffle * config.dim
    found = StreamingDIRformer(network, dtype, elements)(lq, ipr)
    bound = 1e-9 if double else 1e-4
    assert float((found - expected).abs().max()) <= bound * float(expected.abs().max())


@pytest.mark.parametrize("norm", list(Norm))
def test_features_far_from_zero_are_normalised_as_well(norm: Norm) -> None:
    """A mean of a hundred deviations: what a product instead of a layer norm could lose."""
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, norm=norm)
    network = _network(config, torch.float32)
    nn.init.constant_(network.patch_embed.weight, 0.5)
    nn.init.normal_(network.patch_embed.weight[::2], 0.5, 0.005)
    lq, ipr = torch.rand(1, 3, 32, 32), torch.randn(1, config.ipr_dim)
    with torch.inference_mode():
        expected = network.double()(lq.double(), ipr.double())
        plain = network.float()(lq, ipr)
    found = StreamingDIRformer(network, torch.float32, 1000)(lq, ipr)
    errors = [float((hq - expected).abs().max()) for hq in (plain, found)]
    assert errors[1] <= max(4 * errors[0], 1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("seed", range(3))
def test_pictures_are_those_of_the_plain_modules(seed: int) -> None:
    torch.manual_seed(seed)
    model = DiffIRS2(dataclasses.replace(TINY, norm=list(Norm)[seed % 2]))
    lq = noise_image(37, 51, seed=seed)
    plain, strips = (
        runner_of(model, "cpu", Precision.FP32, engine).restore(lq).astype(int)
        for engine in (Engine.REFERENCE, Engine.STREAMING)
    )
    assert abs(plain - strips).max() <= 1
    assert (plain == strips).mean() >= 0.9999


def test_bf16_sums_its_attention_in_fp32() -> None:
    """Over many pixels a sum in bf16 would stop to grow; the error is that of plain modules."""
    torch.manual_seed(0)
    network = _network(TINY, torch.float32)
    lq, ipr = torch.rand(1, 3, 96, 96), torch.randn(1, TINY.ipr_dim)
    with torch.inference_mode():
        exact = network(lq, ipr)
        with torch.autocast("cpu", torch.bfloat16):
            plain = network(lq, ipr).float()
    found = StreamingDIRformer(network, torch.bfloat16, 4096)(lq, ipr)
    assert (found - exact).abs().mean() <= 2 * (plain - exact).abs().mean()


@pytest.mark.parametrize("height", [1, 5, 23, 40])
def test_cpen_in_strips_gives_what_it_gives_whole(height: int) -> None:
    torch.manual_seed(height)
    cpen = CPEN(12, 8, 2).double()
    pixels = torch.rand(1, 12, height, 17, dtype=torch.float64)
    with torch.inference_mode():
        expected = cpen(pixels)
    for elements in (1, 17 * 32 * 7, 10**9):
        torch.testing.assert_close(condition(cpen, pixels, elements), expected, rtol=1e-9, atol=0)


def test_the_same_image_twice_gives_the_same_numbers() -> None:
    torch.manual_seed(0)
    network = _network(TINY, torch.float32)
    lq, ipr = torch.rand(1, 3, 64, 40), torch.randn(1, TINY.ipr_dim)
    stream = StreamingDIRformer(network, torch.float32, 4096)
    assert torch.equal(stream(lq, ipr), stream(lq, ipr))
