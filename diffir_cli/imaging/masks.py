"""Masks for inpainting: which pixels of a picture are to be filled."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from diffir_cli.errors import InputError
from diffir_cli.imaging.read import read_picture


def read_mask(
    path: Path, size: tuple[int, int], invert: bool = False, dilate: int = 0
) -> NDArray[np.bool_]:
    """The holes that a mask file marks.

    Args:
        path: An image of the picture's size. Whatever is not black is a hole, since the soft edge
            of a brush still covers what is to go.
        size: (width, height) of the picture.
        invert: Whatever is not white is a hole instead.
        dilate: By how many pixels the holes grow.

    Returns:
        (height, width), True in the holes.

    Raises:
        InputError: when it cannot be read, has another size, or marks nothing or everything.
    """
    mask = read_picture(path)
    if mask.size != size:
        raise InputError(
            f"the mask {path} has {mask.size[0]}×{mask.size[1]} pixels, "
            f"but the picture has {size[0]}×{size[1]}",
            "draw the mask on a copy of the picture",
        )
    level = mask.rgb.max(axis=2)
    holes = level < 255 if invert else level > 0
    if dilate:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * dilate + 1,) * 2)
        holes = cv2.dilate(holes.astype(np.uint8), kernel) > 0
    if not holes.any():
        raise InputError(f"the mask {path} marks nothing", "paint white what is to be filled")
    if holes.all():
        raise InputError(
            f"the mask {path} marks the whole picture", "leave black what is to be kept"
        )
    return holes
