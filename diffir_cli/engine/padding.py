"""Images mirrored to sides that a network can halve."""

from __future__ import annotations

import torch
from torch import Tensor

from diffir_cli.config import ModelConfig


def pad(image: Tensor, config: ModelConfig, scale: int = 1) -> Tensor:
    """Mirror an image at its bottom and right to sides the network can halve.

    Without the edge pixel, or with it where there is a mask channel, as the released test code
    does. An image narrower than its padding is mirrored again.

    Args:
        image: (B, C, H, W).
        config: Whose `multiple` is wanted.
        scale: Side of this image over side of `lq`: 1 for `lq` itself.
    """
    multiple = config.multiple * scale
    repeat_edge = config.in_channels == 4
    rows = _mirrored(image.shape[-2], multiple, repeat_edge)
    columns = _mirrored(image.shape[-1], multiple, repeat_edge)
    return image[..., rows, :][..., columns].contiguous()


def _mirrored(side: int, multiple: int, repeat_edge: bool) -> Tensor:
    """Which pixel stands at each place of a side padded to a multiple."""
    place = torch.arange(-(-side // multiple) * multiple)
    last = side - 1
    if repeat_edge:
        place = place % (2 * side)
        return torch.where(place < side, place, 2 * side - 1 - place)
    if last == 0:
        return torch.zeros_like(place)
    place = place % (2 * last)
    return torch.where(place <= last, place, 2 * last - place)
