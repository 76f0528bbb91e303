"""Images mirrored to sides that a network can halve."""

from __future__ import annotations

import torch
from torch import Tensor


def pad(image: Tensor, multiple: int, repeat_edge: bool = False) -> Tensor:
    """Mirror an image at its bottom and right until its sides are multiples of a number.

    An image narrower than its padding is mirrored again.

    Args:
        image: (B, C, H, W).
        multiple: Pixels.
        repeat_edge: Whether the edge pixel is repeated by the mirror image.
    """
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
