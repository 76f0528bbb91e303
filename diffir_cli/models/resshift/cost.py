"""Parameters and Mult-Adds of ResShift, counted on the meta device: nothing is computed.

The search of the codebook counts as the linear layer that it is; interpolation does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffir_cli.models.cost import Cost, Count, ModulePart
from diffir_cli.models.resshift.config import ResShiftConfig
from diffir_cli.models.resshift.networks import ResShift

ENCODER = ModulePart("autoencoder", "encoder", "network")
DENOISER = ModulePart("denoiser", "all steps", "network")
CODEBOOK = ModulePart("autoencoder", "codebook", "search")
DECODER = ModulePart("autoencoder", "decoder", "network")


@lru_cache(maxsize=32)
def count_parameters(config: ResShiftConfig) -> Mapping[str, int]:
    """Learned numbers of each network, by the name of its module in `ResShift`."""
    return {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in _on_meta(config).named_children()
    }


@lru_cache(maxsize=256)
def count_cost(config: ResShiftConfig, width: int, height: int) -> Cost:
    """What a model costs for an image of a size, whole.

    Args:
        config: The model.
        width: LQ pixels.
        height: LQ pixels.
    """
    model = _on_meta(config)
    wide, high = (-(-side // config.multiple) * config.multiple for side in (width, height))
    lq = torch.empty(1, config.lq_channels, high, wide, device="meta")
    x = torch.empty(1, *model.noise_shape(high, wide)[1:], device="meta")
    step = _count(lambda x_t: model.denoiser(x_t, 0, lq), x)
    parts = {DENOISER: sum([step] * config.evaluations, Count(0))}
    if (autoencoder := model.autoencoder) is not None:
        parts = {
            ENCODER: _count(model.encode, lq),
            **parts,
            CODEBOOK: _count(autoencoder.quantize.indices, x),
            DECODER: _count(lambda z: autoencoder.decode(z, quantise=False), x),
        }
    total = sum(count.mult_adds for count in parts.values())
    return Cost(wide, high, count_parameters(config), parts, total)


def module_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module, ModulePart]]:
    """Encoder, denoiser and decoder of a model, with their names in it."""
    parts = {
        "autoencoder.encoder": ENCODER,
        "denoiser": DENOISER,
        "autoencoder.decoder": DECODER,
    }
    for name, module in model.named_modules():
        if name in parts:
            yield name, module, parts[name]


@lru_cache(maxsize=16)
def _on_meta(config: ResShiftConfig) -> ResShift:
    with torch.device("meta"):
        return ResShift.of(config).eval()


def _count(run: Callable[[Tensor], Tensor], argument: Tensor) -> Count:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(argument)
    operators: Mapping[Any, int] = counter.get_flop_counts()["Global"]
    products = {name: flops // 2 for name, flops in operators.items()}
    attention = [
        count for name, count in products.items() if "bmm" in str(name) or "attention" in str(name)
    ]
    return Count(sum(products.values()), sum(attention))
