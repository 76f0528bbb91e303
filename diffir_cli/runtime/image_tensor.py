"""Images as tensors in [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KINDS = {"uint8": torch.uint8, "uint16": torch.int32, "float32": torch.float32}
"""What torch counts the levels of an image in."""


def white_level(image: NDArray[Any]) -> int:
    """The number that stands for white.

    Raises:
        ValueError: when the numbers are of another kind.
    """
    if image.dtype.name not in KINDS:
        raise ValueError(f"an image has numbers of {', '.join(KINDS)}, not {image.dtype}")
    return 1 if image.dtype == np.float32 else int(np.iinfo(image.dtype).max)


def to_tensor(image: NDArray[Any]) -> Tensor:
    """(H, W, C) of uint8, uint16 or fractions in float32 to (1, C, H, W) in [0, 1].

    Raises:
        ValueError: when the numbers are of another kind.
    """
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] / white_level(image)


def to_levels(planes: Tensor) -> NDArray[np.uint8]:
    """(C, H, W) in [0, 1] on the CPU to (H, W, C) in 0–255."""
    return np.asarray((planes * 255).round().byte().permute(1, 2, 0))
