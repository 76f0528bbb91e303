"""What a network made of an image, as pixels of the image's own kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffir_cli.errors import WeightsError
from diffir_cli.runtime.blend import blend
from diffir_cli.runtime.image_tensor import KINDS, white_level
from diffir_cli.runtime.memory import STRIP_ROWS
from diffir_cli.util.device_copy import to_host


def is_finite(hq: Tensor) -> bool:
    """Whether a tensor of any shape has no NaN and no infinity; without the copy of `isfinite`."""
    return all(bool(torch.isfinite(end)) for end in torch.aminmax(hq))


def finished(
    hq: Tensor, lq: NDArray[Any], mask: NDArray[np.bool_] | None, strength: float, rounds: bool
) -> NDArray[Any]:
    """The pixels of a result, of the kind of `lq`.

    Args:
        hq: (1, 3, scale·H, scale·W) near [0, 1], which is changed in place.
        lq: (H, W, 3) of uint8, uint16 or fractions in float32.
        mask: (H, W), True where a hole was filled; elsewhere the result is `lq`. None for no holes.
        strength: Share of the network in the result, 0 to 1.
        rounds: Whether levels are rounded, and not truncated.

    Raises:
        WeightsError: when it is not finite.
    """
    if not is_finite(hq):
        raise WeightsError(
            "the network produced NaN or infinite values", "are the weights damaged? try others"
        )
    hq = blend(hq, lq, strength)
    kind = KINDS[lq.dtype.name]
    pixels = np.empty((*hq.shape[2:], 3), lq.dtype)
    # A strip at a time, since copies of all levels would take as much as the result.
    for first in range(0, hq.shape[2], STRIP_ROWS):
        levels = hq[0, :, first : first + STRIP_ROWS].clamp_(0, 1).mul_(white_level(lq))
        if rounds and not kind.is_floating_point:
            levels.round_()
        strip = to_host(levels.permute(1, 2, 0).to(kind).contiguous()).numpy()
        pixels[first : first + STRIP_ROWS] = strip
    return pixels if mask is None else np.where(mask[:, :, None], pixels, lq)
