"""A contact sheet: what a degradation makes of one photo, many times over."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from diffir_cli.degradations.apply import degraded
from diffir_cli.degradations.kinds import Degradation, MaskKind, PreviewKind
from diffir_cli.degradations.masks import random_mask
from diffir_cli.degradations.motion_blur import Kernel, ShakeRanges, random_shake_kernel
from diffir_cli.degradations.realworld import sharpen


def contact_sheet(
    photo: NDArray[np.uint8], kind: PreviewKind, count: int, seed: int, scale: int = 4
) -> NDArray[np.uint8]:
    """The photo and `count` degraded versions of it, each from a seed of its own, in rows.

    Args:
        photo: (H, W, 3) in 0–255.
        kind: Which degradation.
        count: How many versions.
        seed: Of the first version; the others follow.
        scale: Of the kinds that shrink; they are shown at the photo's size, pixel by pixel.

    Returns:
        (rows·H, columns·W, 3) in 0–255.
    """
    height, width = (side // scale * scale for side in photo.shape[:2])
    photo = np.ascontiguousarray(photo[:height, :width])
    versions = [
        _enlarged(
            degraded_version(photo, kind, scale, np.random.default_rng([seed, number])), photo
        )
        for number in range(count)
    ]
    pictures = [photo, *versions]
    columns = int(np.ceil(np.sqrt(len(pictures))))
    pictures += [np.zeros_like(photo)] * (-len(pictures) % columns)
    rows = [
        np.concatenate(pictures[start : start + columns], axis=1)
        for start in range(0, len(pictures), columns)
    ]
    return np.concatenate(rows, axis=0)


def degraded_version(
    photo: NDArray[np.uint8], kind: PreviewKind, scale: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A degraded version of a photo; kinds that shrink give (H/scale, W/scale, 3)."""
    if kind.value in set(Degradation):
        return degraded(photo, Degradation(kind.value), scale, rng)
    if kind is PreviewKind.SHARPEN:
        return sharpen(photo)
    if kind is PreviewKind.SHAKE_KERNELS:
        return _drawn(random_shake_kernel(rng, ShakeRanges()), photo)
    return photo * (1 - previewed_mask(photo, kind, rng))


def previewed_mask(
    photo: NDArray[np.uint8], kind: PreviewKind, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A mask of a `mask-` kind for a photo, (H, W, 1): 1 in the holes, 0 elsewhere."""
    height, width = photo.shape[:2]
    return random_mask(rng, height, width, MaskKind(kind.value.removeprefix("mask-")))[:, :, None]


def _drawn(kernel: Kernel, like: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A kernel as a picture of its own, its brightest pixel white, as wide as it is high."""
    levels = np.rint(kernel / kernel.max() * 255).astype(np.uint8)
    side, shortest = len(levels), min(like.shape[:2])
    spare = [round(side * length / shortest) - side for length in like.shape[:2]]
    levels = np.pad(levels, [(more // 2, more - more // 2) for more in spare])
    return _enlarged(np.repeat(levels[:, :, None], 3, axis=2), like)


def _enlarged(picture: NDArray[np.uint8], like: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = like.shape[:2]
    if picture.shape == like.shape:
        return picture
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized, dtype=np.uint8)
