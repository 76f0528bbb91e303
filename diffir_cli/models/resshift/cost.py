"""Parameters and Mult-Adds of ResShift, counted on the meta device: nothing is computed.

A Mult-Add is a multiplication with the addition behind it, two FLOPs. What counts are convolutions,
linear layers, the products of attention and the search of the codebook; norms, activations, sums
and interpolation do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from diffir_cli.models.resshift.config import ResShiftConfig
from diffir_cli.models.resshift.networks import ResShift


@dataclass(frozen=True)
class Count:
    """Mult-Adds by kind."""

    convolution: int = 0
    """Of convolutions, the 1×1 ones included."""
    linear: int = 0
    """Of linear layers, and of the search of the codebook."""
    attention: int = 0
    """Of the products of attention."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.convolution + self.linear + self.attention


@dataclass(frozen=True)
class Cost:
    """What a model costs at one size."""

    width: int
    """LQ pixels, padded to what the model needs."""
    height: int
    """LQ pixels, padded to what the model needs."""
    evaluations: int
    """How often the denoiser is evaluated."""
    encode: Count
    """Of the encoder, once."""
    step: Count
    """Of one evaluation of the denoiser."""
    decode: Count
    """Of the decoder without the search of the codebook, once."""
    quantise: Count
    """Of the search of the codebook, once."""

    @property
    def total(self) -> int:
        """Mult-Adds of one result."""
        once = self.encode.total + self.decode.total + self.quantise.total
        return once + self.evaluations * self.step.total


@lru_cache(maxsize=32)
def count_parameters(config: ResShiftConfig) -> Mapping[str, int]:
    """Learned numbers of each network, by the name of its module in `ResShift`."""
    return {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in _on_meta(config).named_children()
    }


@lru_cache(maxsize=256)
def count_cost(config: ResShiftConfig, width: int, height: int) -> Cost:
    """What a model costs for an image of a size.

    Args:
        config: The model.
        width: LQ pixels.
        height: LQ pixels.
    """
    model = _on_meta(config)
    wide, high = (-(-side // config.multiple) * config.multiple for side in (width, height))
    lq = torch.empty(1, config.lq_channels, high, wide, device="meta")
    x = torch.empty(1, *model.noise_shape(high, wide)[1:], device="meta")
    encode, decode, quantise = Count(), Count(), Count()
    if model.autoencoder is not None:
        autoencoder = model.autoencoder
        encode = _count(model.encode, lq)
        quantise = _count(autoencoder.quantize.indices, x)
        decode = _count(lambda z: autoencoder.decode(z, quantise=False), x)
    step = _count(lambda x_t: model.denoiser(x_t, 0, lq), x)
    return Cost(wide, high, config.evaluations, encode, step, decode, quantise)


@lru_cache(maxsize=16)
def _on_meta(config: ResShiftConfig) -> ResShift:
    with torch.device("meta"):
        return ResShift.of(config).eval()


def _count(run: Callable[[Tensor], Tensor], argument: Tensor) -> Count:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(argument)
    operators: Mapping[Any, int] = counter.get_flop_counts()["Global"]
    kinds = {"convolution": 0, "linear": 0, "attention": 0}
    for operator, flops in operators.items():
        kinds[_kind(str(operator))] += flops // 2
    return Count(**kinds)


def _kind(operator: str) -> str:
    if "convolution" in operator:
        return "convolution"
    return "attention" if "bmm" in operator or "attention" in operator else "linear"
