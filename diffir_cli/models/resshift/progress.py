"""How far a ResShift model is with a window, from the products that its modules compute."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from diffir_cli.models.progress import Meter, Progress, counted
from diffir_cli.models.resshift.diffusion import ChainStep
from diffir_cli.models.resshift.networks import ResShift
from diffir_cli.models.resshift.networks.vq_autoencoder import GlobalAttention

_USES = 0.1
"""How often a place of the latent meets a weight of the denoiser, whose levels become smaller."""


@contextmanager
def reporting(
    network: ResShift, width: int, height: int, progress: Progress
) -> Iterator[Callable[[ChainStep], None]]:
    """Report how far the network is while the block runs it once.

    Args:
        network: The model.
        width: LQ pixels of the window.
        height: LQ pixels of the window.
        progress: What is reported to.

    Yields:
        What must be called after each step of the chain.
    """
    pixels = width * height * network.config.scale**2
    work: dict[nn.Module, float] = {}
    if network.autoencoder is not None:
        for part in (network.autoencoder.encoder, network.autoencoder.decoder):
            work |= _work_of(part, pixels)
    step = _USES * pixels / network.config.factor**2 * _weights(network.denoiser)
    meter = Meter(progress, sum(work.values()) + network.schedule.steps * step)
    with counted(work, meter):
        yield lambda _state: meter.add(step)


def _work_of(part: nn.Module, pixels: int) -> dict[nn.Module, float]:
    """Products of the convolutions and of the attention of an encoder or a decoder.

    Args:
        part: Its levels are numbered from the full size down in the names of its modules.
        pixels: Of the image.
    """
    levels = {name: re.match(r"(?:down|up)\.(\d+)\.", name) for name, _ in part.named_modules()}
    lowest = max(int(match[1]) for match in levels.values() if match)
    outer = "conv_in" if hasattr(part, "down") else "conv_out"
    work: dict[nn.Module, float] = {}
    for name, module in part.named_modules():
        match = levels[name]
        level = int(match[1]) if match else 0 if name == outer else lowest
        # What changes the size belongs to the next level by the size of its result.
        level += (".downsample." in name) - (".upsample." in name)
        places = pixels / 4**level
        if isinstance(module, nn.Conv2d):
            work[module] = places * module.weight.numel()
        elif isinstance(module, GlobalAttention):
            work[module] = 2 * places**2 * module.q.out_channels
    return work


def _weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
