"""A picture in memory: the pixels the network works on, and what must be given back with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffir_cli.imaging.formats import Format
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
    reduced: bool = False
    """Whether the levels of its file were finer than those that were read."""
    format: str = ""
    """What Pillow calls the format of its file; empty where it comes from none."""

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
            alpha=None if self.alpha is None else _resize_plane(self.alpha, rgb.shape[:2]),
            metadata=self.metadata.of_result(size, software),
        )

    def resized(self, size: tuple[int, int]) -> Picture:
        """This picture in another size, (width, height), by Lanczos."""
        if size == self.size:
            return self
        shape = size[1], size[0]
        rgb = np.empty((*shape, 3), self.rgb.dtype)
        for channel in range(3):
            rgb[:, :, channel] = _resize_plane(self.rgb[:, :, channel], shape)
        alpha = None if self.alpha is None else _resize_plane(self.alpha, shape)
        metadata = self.metadata.of_result(size, self.metadata.software)
        return replace(self, rgb=rgb, alpha=alpha, metadata=metadata)

    def beside(self, other: Picture) -> Picture:
        """Both pictures next to each other; `other` has the same height, and says what is said."""
        rgb = np.concatenate([self.rgb, other.rgb], axis=1)
        # No place in one of them is that place in both.
        metadata = replace(other.metadata, size=(0, 0))
        return Picture(
            rgb, metadata=metadata.of_result((rgb.shape[1], rgb.shape[0]), metadata.software)
        )

    def channels(self) -> NDArray[Any]:
        """(H, W, 1 to 4): grey or colours as the file had them, and alpha where there is any."""
        planes = [self.rgb]
        if self.grey:
            planes = [np.rint(self.rgb.mean(axis=2, keepdims=True)).astype(self.rgb.dtype)]
        if self.alpha is not None:
            planes.append(self.alpha[:, :, None])
        return np.concatenate(planes, axis=2)

    def over(self, colour: tuple[int, int, int]) -> Picture:
        """This picture, opaque, over a colour of three numbers in 0–255."""
        if self.alpha is None:
            return self
        white = np.iinfo(self.rgb.dtype).max
        opacity = self.alpha.astype(np.float32) / white
        rgb = np.empty_like(self.rgb)
        for channel, level in enumerate(colour):
            behind = level * (white / 255)
            plane = (self.rgb[:, :, channel] - behind) * opacity + behind
            rgb[:, :, channel] = np.rint(plane)
        grey = self.grey and len(set(colour)) == 1
        return replace(self, rgb=rgb, alpha=None, grey=grey)

    def for_format(self, format_: Format) -> Picture:
        """This picture as a format holds it: without an alpha channel in which all is opaque."""
        opaque = self.alpha is not None and not is_transparent(self.alpha)
        return replace(self, alpha=None) if opaque and not format_.alpha else self

    def stripped(self) -> Picture:
        """This picture with nothing said about it but its colour profile."""
        return replace(self, metadata=self.metadata.stripped())


def is_transparent(alpha: NDArray[Any]) -> bool:
    """Whether anything in an alpha channel, (H, W) of uint8 or uint16, is not opaque."""
    return bool((alpha < np.iinfo(alpha.dtype).max).any())


def resize_lanczos(
    image: NDArray[np.float32], shape: tuple[int, int], rows: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """(H, W, C) in another shape, (height, width), by Lanczos, neither rounded nor clipped.

    Args:
        image: What to resize.
        shape: Of the result.
        rows: Where in the image the result begins and ends; None for all of it.
    """
    size = shape[1], shape[0]
    begin, end = rows or (0, len(image))
    box = 0, begin, image.shape[1], end
    result = np.empty((*shape, image.shape[2]), np.float32)
    for channel in range(image.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(image[:, :, channel]))
        result[:, :, channel] = np.asarray(plane.resize(size, Image.Resampling.LANCZOS, box))
    return result


def _resize_plane(plane: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A plane, (H, W) of uint8 or uint16, in another shape by Lanczos."""
    if plane.shape == shape:
        return plane
    height, width = shape
    # In float, which Pillow resizes without rounding in between.
    image = Image.fromarray(plane.astype(np.float32))
    resized = np.array(image.resize((width, height), Image.Resampling.LANCZOS))
    np.rint(resized, out=resized)
    return resized.clip(0, np.iinfo(plane.dtype).max, out=resized).astype(plane.dtype)
