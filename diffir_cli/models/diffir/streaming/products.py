"""Products of the DIRformer's convolutions: how much of the work on an image is done."""

from __future__ import annotations

from torch import nn

from diffir_cli.models.diffir.networks import DIRformer


def weights_of(module: nn.Module) -> int:
    """Weights of the convolutions in a module, each of which meets every pixel once."""
    return sum(one.weight.numel() for one in module.modules() if isinstance(one, nn.Conv2d))


def tail_weights(tail: nn.Sequential) -> int:
    """The same for a tail, whose shuffles give pixels behind them: for each pixel before it."""
    total, grown = 0, 1
    for module in tail:
        if isinstance(module, nn.PixelShuffle):
            grown *= module.upscale_factor**2
        else:
            total += grown * weights_of(module)
    return total


def products(net: DIRformer, height: int, width: int) -> int:
    """Products of all blocks and of the tail; what is between them takes little.

    Args:
        net: The network.
        height: Rows of its first feature.
        width: Columns of its first feature.
    """
    levels = [*net.encoder, net.latent, *net.decoder, net.refinement]
    halved = (0, 1, 2, 3, 2, 1, 0, 0)
    blocks = sum(weights_of(one) // 4**times for one, times in zip(levels, halved, strict=True))
    return height * width * (blocks + tail_weights(net.tail))
