"""Masks for inpainting: which pixels of a picture are to be filled."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from diffir_cli.errors import InputError
from diffir_cli.imaging.opening import MAX_PIXELS
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.read import read_picture


def mask_from_alpha(picture: Picture, path: Path, dilate: int = 0) -> NDArray[np.bool_]:
    """The holes that a picture's own transparency marks, (height, width): whatever is not opaque.

    Args:
        picture: The picture.
        path: What messages call it.
        dilate: By how many pixels the holes grow.

    Raises:
        InputError: when nothing or everything is transparent.
    """
    if picture.alpha is None:
        raise no_transparency(path)
    holes = picture.alpha < np.iinfo(picture.alpha.dtype).max
    return _with_both(
        _grown(holes, dilate), f"the transparency of {path}", "erase what is to be filled"
    )


def no_transparency(path: Path) -> InputError:
    """What is wrong with a picture whose own transparency is to mark its holes."""
    return InputError(f"{path} has no transparency", "erase what is to be filled, or use --mask")


def read_mask(
    path: Path,
    size: tuple[int, int],
    invert: bool = False,
    dilate: int = 0,
    limits: tuple[int, bool] = (MAX_PIXELS, False),
    data: bytes | None = None,
) -> NDArray[np.bool_]:
    """The holes that a mask file marks.

    Args:
        path: An image of the picture's size; with `data` only what messages call it. Whatever is
            lighter than middle grey is a hole: the black of a JPEG is never quite black.
        size: (width, height) of the picture.
        invert: Whatever is not is one instead.
        dilate: By how many pixels the holes grow.
        limits: Most pixels, and whether a file that ends early is read as far as it goes.
        data: The content of the file where that is in memory already.

    Returns:
        (height, width), True in the holes.

    Raises:
        InputError: when it cannot be read, has another size, or marks nothing or everything.
    """
    mask = read_picture(path, True, *limits, data)
    check_mask_size(path, mask.size, size)
    light = light_pixels(mask)
    holes = ~light if invert else light
    return _with_both(
        _grown(holes, dilate),
        f"the mask {path}",
        "paint white what is to be filled, black the rest",
    )


def light_pixels(mask: Picture) -> NDArray[np.bool_]:
    """Where a mask is lighter than middle grey over black, (height, width)."""
    level = mask.over((0, 0, 0)).rgb.max(axis=2)
    return level > np.iinfo(level.dtype).max // 2


def check_mask_size(path: Path, size: tuple[int, int], of_picture: tuple[int, int]) -> None:
    """Refuse a mask of another size than its picture.

    Raises:
        InputError: when it has one.
    """
    if size != of_picture:
        raise InputError(
            f"the mask {path} has {size[0]}×{size[1]} pixels, "
            f"but the picture has {of_picture[0]}×{of_picture[1]}",
            "draw the mask on a copy of the picture",
        )


def _grown(holes: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    if not pixels:
        return holes
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2)
    return cv2.dilate(holes.astype(np.uint8), kernel) > 0


def _with_both(holes: NDArray[np.bool_], name: str, hint: str) -> NDArray[np.bool_]:
    """The holes, unless there is nothing to fill or nothing to fill it from."""
    if not holes.any():
        raise InputError(f"{name} marks nothing", hint)
    if holes.all():
        raise InputError(f"{name} marks the whole picture", hint)
    return holes
