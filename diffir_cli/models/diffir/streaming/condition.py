"""CPEN in strips: what its average pool sees of an image that is too large for its features.

CPEN is convolutions and a mean, so a strip with a halo of as many rows as there are 3×3
convolutions gives exactly its own rows' share of the mean.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from diffir_cli.models.diffir.memory import CONDITION_ELEMENTS
from diffir_cli.models.diffir.networks.cpen import CPEN
from diffir_cli.models.diffir.streaming.rows import spans
from diffir_cli.models.progress import Progress


@torch.inference_mode()
def condition(
    cpen: CPEN,
    pixels: Tensor,
    elements: int = CONDITION_ELEMENTS,
    progress: Progress | None = None,
) -> Tensor:
    """What `CPEN.forward` gives, with bounded memory.

    Args:
        cpen: The plain module.
        pixels: (1, C, h, w) unshuffled pixels.
        elements: How many numbers its widest feature may have at a time, halo apart.
        progress: Called after each strip with the share that is done; optional.

    Returns:
        (1, 4C').
    """
    height, width = pixels.shape[2:]
    widest = cast(nn.Linear, cpen.mlp[0]).in_features
    strip = max(1, elements // (width * widest))
    if strip >= height:
        return cpen(pixels)
    halo = sum(isinstance(module, nn.Conv2d) for module in cpen.features.modules())
    # MPS has no fp64.
    exact = torch.float32 if pixels.device.type == "mps" else torch.float64
    total = torch.zeros(1, widest, dtype=exact, device=pixels.device)
    for first, last in spans(height, strip):
        begin = max(first - halo, 0)
        rows = cpen.features(pixels[:, :, begin : last + halo])[:, :, first - begin :]
        total += rows[:, :, : last - first].sum(dim=(2, 3), dtype=exact)
        if progress:
            progress(last / height)
    return cpen.mlp((total / (height * width)).to(pixels.dtype))
