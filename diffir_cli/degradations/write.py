"""Test sets: the degraded version of a photo, by the seed and the photo's name alone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffir_cli.degradations.kinds import PreviewKind
from diffir_cli.degradations.preview import degraded_version, previewed_mask
from diffir_cli.errors import InputError
from diffir_cli.imaging import Picture, read_levels, write_picture


def write_degraded(
    source: Path, target: Path, kind: PreviewKind, scale: int, seed: int, overwrite: bool
) -> None:
    """Write the degraded version of a photo, or a mask for it.

    A photo is cut to multiples of the scale before a kind that shrinks.

    Args:
        source: The photo.
        target: The file to write.
        kind: Which degradation.
        scale: Of the kinds that shrink.
        seed: With the photo's name, where all randomness comes from: a degraded photo does not
            depend on which other photos lie beside it.
        overwrite: Whether the file may be replaced.

    Raises:
        InputError: when the photo cannot be read or is too small, or the file not be written.
    """
    photo = read_levels(source)
    rng = np.random.default_rng([seed, *_numbers(source.stem)])
    smallest = _SMALLEST * (scale if kind in _SHRINK else 1)
    if min(photo.shape[:2]) < smallest:
        raise InputError(
            f"{source} is too small to be degraded: {photo.shape[1]}×{photo.shape[0]} pixels",
            f"leave out images with a side under {smallest} pixels",
        )
    write_picture(Picture(_degraded(photo, kind, scale, rng)), target, overwrite)


_SMALLEST = 16
"""The shortest side of a degraded photo in pixels."""
_SHRINK = (PreviewKind.BICUBIC, PreviewKind.REALWORLD)
"""The kinds that the scale is of."""


def _numbers(name: str) -> list[int]:
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return [int.from_bytes(digest[at : at + 4], "big") for at in (0, 4, 8, 12)]


def _degraded(
    photo: NDArray[np.uint8], kind: PreviewKind, scale: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    if kind.value.startswith("mask-"):
        return np.repeat(previewed_mask(photo, kind, rng) * np.uint8(255), 3, axis=2)
    if kind in _SHRINK:
        height, width = (side // scale * scale for side in photo.shape[:2])
        photo = np.ascontiguousarray(photo[:height, :width])
    return degraded_version(photo, kind, scale, rng)
