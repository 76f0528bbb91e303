"""What the header of a file says of its picture, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffir_cli.imaging.read import open_picture, pillow_limits, refusing, told_depth


@dataclass(frozen=True)
class Probe:
    """A picture that has not been decoded yet."""

    size: tuple[int, int]
    """(width, height) in pixels, upright."""
    format: str
    """What Pillow calls it."""
    alpha: bool
    """Whether it has transparency."""
    deep: bool
    """Whether it has 16 bits a channel."""


def probe_picture(path: Path, max_pixels: int) -> Probe:
    """Look at a file.

    Raises:
        InputError: when it is no picture, cannot be read, or is too large.
    """
    with (
        refusing(path, None, max_pixels),
        pillow_limits(max_pixels, False),
        open_picture(path, None, max_pixels) as image,
    ):
        width, height = image.size
        if image.getexif().get(_ORIENTATION, 1) >= _LYING:
            width, height = height, width
        deep = told_depth(image) == 16
        return Probe((width, height), image.format or "", image.has_transparency_data, deep)


_ORIENTATION, _LYING = 0x0112, 5
