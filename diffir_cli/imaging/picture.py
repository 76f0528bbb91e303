"""A picture in memory: the pixels the network works on, and what must be given back with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffir_cli.imaging.metadata import Metadata


@dataclass(frozen=True)
class Picture:
    """An upright picture of 8 or 16 bits a channel."""

    rgb: NDArray[Any]
    """(H, W, 3) in 0–255 of uint8, or in 0–65535 of uint16; grey has three equal channels."""
    alpha: NDArray[Any] | None = None
    """(H, W) of the same kind, or None."""
    grey: bool = False
    """Whether the file had one colour channel."""
    metadata: Metadata = field(default_factory=Metadata)
    """What the file says about it."""

    @property
    def deep(self) -> bool:
        """Whether it has 16 bits a channel."""
        return self.rgb.dtype == np.uint16

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def restored(self, rgb: NDArray[Any], software: str = "") -> Picture:
        """This picture with new colours of the same depth; alpha follows to the new size.

        Args:
            rgb: (H', W', 3).
            software: What made them, for the file.
        """
        size = rgb.shape[1], rgb.shape[0]
        return replace(
            self,
            rgb=rgb,
            alpha=_resize_alpha(self.alpha, rgb.shape[:2]),
            metadata=self.metadata.of_result(size, software),
        )

    def stripped(self) -> Picture:
        """This picture with nothing said about it but its colour profile."""
        return replace(self, metadata=self.metadata.stripped())


def _resize_alpha(alpha: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[Any] | None:
    if alpha is None or alpha.shape == shape:
        return alpha
    height, width = shape
    # In float, which Pillow resizes without rounding in between.
    plane = Image.fromarray(alpha.astype(np.float32), "F")
    resized = np.asarray(plane.resize((width, height), Image.Resampling.LANCZOS))
    return np.rint(resized).clip(0, np.iinfo(alpha.dtype).max).astype(alpha.dtype)
