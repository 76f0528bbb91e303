"""A picture in memory: the pixels the network works on, and what must be given back with them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Picture:
    """An upright 8-bit picture."""

    rgb: NDArray[np.uint8]
    """(H, W, 3) in 0–255; a grey picture has three equal channels."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W) in 0–255, or None."""
    grey: bool = False
    """Whether the file had one colour channel."""
    icc: bytes | None = None
    """The colour profile of the file."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def restored(self, rgb: NDArray[np.uint8]) -> Picture:
        """This picture with new colours, (H', W', 3) in 0–255; alpha follows to the new size."""
        return replace(self, rgb=rgb, alpha=_resize_alpha(self.alpha, rgb.shape[:2]))


def _resize_alpha(
    alpha: NDArray[np.uint8] | None, shape: tuple[int, ...]
) -> NDArray[np.uint8] | None:
    if alpha is None or alpha.shape == shape:
        return alpha
    height, width = shape
    resized = Image.fromarray(alpha).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)
