"""First weights for networks that learn from nothing.

A modulation has no "1 +" in it: with torch's usual first weights the IPR is nearly zero and shrinks
every block's input to nearly nothing. Here the IPR begins near one with differences between images,
and every modulation begins near the identity.
"""

from __future__ import annotations

import torch
from torch import nn

from diffir_cli.models.diffir.config import Prediction
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.models.diffir.networks.blocks import NEGATIVE_SLOPE, IPRModulation
from diffir_cli.models.diffir.networks.cpen import CPEN

_SPREAD = 0.1
"""Deviation of the first scales and shifts that the IPR gives."""
_TAIL = 0.1
"""How much of their usual size the last weights have: the result begins near its residual."""


@torch.no_grad()
def initialise(model: DiffIRS1 | DiffIRS2) -> None:
    """Initialize the weights of a new network, from torch's global generator."""
    initialise_cpen(model.cpen)
    if isinstance(model, DiffIRS2) and model.config.prediction is Prediction.X0:
        _centre_on_one(model.denoiser.layers)
    for module in model.dirformer.modules():
        if isinstance(module, IPRModulation):
            _near_identity(module)
    for parameter in model.dirformer.tail.parameters():
        parameter.mul_(_TAIL)


@torch.no_grad()
def initialise_cpen(cpen: CPEN) -> None:
    """Weights that keep the size of activations, and an IPR around one."""
    for module in cpen.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, NEGATIVE_SLOPE)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    _centre_on_one(cpen.mlp)


def _centre_on_one(layers: nn.Sequential) -> None:
    """Set the bias of the last linear layer, whose output is an IPR, to one."""
    last = [layer for layer in layers if isinstance(layer, nn.Linear)][-1]
    nn.init.ones_(last.bias)


def _near_identity(modulation: IPRModulation) -> None:
    weight = modulation.to_scale_shift.weight
    numbers = weight.shape[1]
    nn.init.normal_(weight, std=_SPREAD / numbers**0.5)
    weight[: len(weight) // 2] += 1 / numbers
