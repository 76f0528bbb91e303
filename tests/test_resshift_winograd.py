"""Winograd's convolutions give what direct ones give, and are used where they gain."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from diffir_cli.models.base import Window
from diffir_cli.models.resshift import winograd
from diffir_cli.models.resshift.family import FAMILY
from diffir_cli.models.resshift.networks import vq_autoencoder
from diffir_cli.models.resshift.winograd import WinogradConv, use_winograd
from diffir_cli.options import Engine, Precision, RunOptions
from diffir_cli.runtime.runner import ModelRunner
from tests.resshift_helpers import NARROW

CPU = torch.device("cpu")
WIDE = replace(NARROW, width=64, ae_width=64)


@pytest.mark.parametrize("tiles", [1, 5, 256])
@pytest.mark.parametrize(
    ("batch", "channels", "out", "height", "width"),
    [(1, 64, 64, 32, 32), (2, 3, 5, 40, 28), (1, 16, 8, 33, 47), (1, 8, 8, 1, 1100)],
)
def test_the_result_is_that_of_a_direct_convolution(
    batch: int,
    channels: int,
    out: int,
    height: int,
    width: int,
    tiles: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(winograd, "_TILES", tiles)
    direct = nn.Conv2d(channels, out, 3, padding=1, bias=batch == 1)
    feature = torch.randn(batch, channels, height, width)
    with torch.no_grad():
        found = WinogradConv.of(direct)(feature)
        expected = direct.double()(feature.double())
    assert found.stride(1) == 1
    torch.testing.assert_close(found.double(), expected, atol=5e-5, rtol=0)


def test_with_gradients_it_is_the_direct_convolution() -> None:
    direct = nn.Conv2d(64, 64, 3, padding=1)
    feature = torch.randn(1, 64, 32, 32, requires_grad=True)
    assert torch.equal(WinogradConv.of(direct)(feature), direct(feature))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_in_other_number_formats_it_is_the_direct_convolution(dtype: torch.dtype) -> None:
    direct = nn.Conv2d(64, 64, 3, padding=1, dtype=dtype)
    feature = torch.randn(1, 64, 32, 32, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(WinogradConv.of(direct)(feature), direct(feature))


def test_under_autocast_it_is_the_direct_convolution() -> None:
    direct = nn.Conv2d(64, 64, 3, padding=1)
    feature = torch.randn(1, 64, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(WinogradConv.of(direct)(feature), direct(feature))


def test_a_runner_in_half_precision_takes_no_winograd() -> None:
    model = FAMILY.build(WIDE)
    runner = ModelRunner(model, RunOptions("cpu", Precision.BF16))
    plain = model.to(CPU, torch.bfloat16, Engine.STREAMING)
    chosen = runner._model(Precision.BF16)
    assert chosen.memory(64, 64) == plain.memory(64, 64)
    lq, window = torch.rand(1, 3, 32, 32), Window(0, 0, 32, 32)
    with torch.inference_mode():
        context = plain.context(lq, 0)
        expected = plain.restore(lq, window, context)
        assert torch.equal(chosen.restore(lq, window, context), expected)


def test_only_wide_plain_convolutions_of_stride_1_are_replaced() -> None:
    network = nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(3, 64, 3, padding=1),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 3, padding=1, dilation=2),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
    )
    names = list(network.state_dict())
    weight = network[0].weight
    use_winograd(network)
    assert [type(module) for module in network] == [WinogradConv] + [nn.Conv2d] * 7
    assert list(network.state_dict()) == names and network[0].weight is weight


def test_streaming_gives_the_picture_of_the_plain_modules() -> None:
    model = FAMILY.build(WIDE)
    lq, window = torch.rand(1, 3, 32, 32), Window(0, 0, 32, 32)
    pictures = []
    for engine in (Engine.STREAMING, Engine.REFERENCE):
        chosen = model.to(CPU, torch.float32, engine)
        replaced = [type(module) is WinogradConv for module in chosen.network.modules()]
        assert any(replaced) == (engine is Engine.STREAMING)
        with torch.inference_mode():
            context = chosen.context(lq, 0)
            y0 = chosen.network.encode(context.lq)
            x0 = chosen.network.sample(y0, context.lq, context.noise)
            pictures.append((x0, chosen.network.decode(y0, quantise=False)))
            assert chosen.restore(context.lq, window, context).isfinite().all()
    for one, other in zip(*pictures, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)


def test_attention_in_products_is_that_of_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vq_autoencoder, "_MOST_SCORES_AT_ONCE", 1)
    q, k, v = (torch.randn(2, 1, 600, 32) for _ in range(3))
    with torch.no_grad():
        exact = vq_autoencoder._attended(q, k, v)
        found = vq_autoencoder._attended(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.02, rtol=0)
