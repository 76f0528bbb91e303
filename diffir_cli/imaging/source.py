"""A picture that is to be restored, and what is to be done with it: for `restore` and `batch`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffir_cli.imaging.fitting import check_notes
from diffir_cli.imaging.formats import Format
from diffir_cli.imaging.masks import mask_from_alpha, read_mask
from diffir_cli.imaging.opening import MAX_PIXELS
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.read import read_picture
from diffir_cli.imaging.write import check_fit, check_metadata
from diffir_cli.options import AlphaMode


@dataclass(frozen=True)
class PictureOptions:
    """What is done with each picture, whatever the weights."""

    seed: int = 0
    """Where x_T comes from."""
    alpha: AlphaMode = AlphaMode.LANCZOS
    """What becomes of transparency."""
    background: tuple[int, int, int] | None = None
    """What is put behind transparency, in 0–255; None leaves it transparent."""
    outscale: float | None = None
    """Side of the result over that of the input; None for the network's scale."""
    size: tuple[int, int] = (0, 0)
    """(width, height) that the result is fitted into, with its aspect kept; 0 for any."""
    long_side: int = 0
    """The longer side of the result in pixels; 0 for any."""
    strength: float = 1.0
    """Share of the network in the result; the rest is the input, resized."""
    mask_invert: bool = False
    """Whether masks are black where to fill."""
    mask_dilate: int = 0
    """By how many pixels holes grow."""
    mask_from_alpha: bool = False
    """Whether what is transparent is filled."""
    max_pixels: int = MAX_PIXELS
    """Larger pictures are refused."""
    allow_truncated: bool = False
    """Whether a file that ends early is read as far as it goes."""
    strip_metadata: bool = False
    """Whether all but the colour profile is left out."""

    @property
    def keeps_alpha(self) -> bool:
        """Whether results are transparent where sources are."""
        dropped = self.alpha is AlphaMode.DROP or self.background is not None
        return not (dropped or self.mask_from_alpha)


@dataclass(frozen=True)
class Source:
    """A picture that was read, and where an inpainting network fills it."""

    picture: Picture
    holes: NDArray[np.bool_] | None = None
    """(H, W), or None for nowhere."""

    def size_of_result(self, picture_options: PictureOptions, scale: int) -> tuple[int, int]:
        """(width, height) of the result of a network of that scale."""
        return result_size(self.picture.size, picture_options, scale)


def result_size(
    size: tuple[int, int], picture_options: PictureOptions, scale: float
) -> tuple[int, int]:
    """(width, height) of the result of a picture of a size.

    Args:
        size: (width, height) of the picture.
        picture_options: What was asked for.
        scale: Side of the result over that of the picture where nothing was.
    """
    wanted = picture_options.size
    if picture_options.long_side:
        factor = picture_options.long_side / max(size)
    elif any(wanted):
        factor = min(most / side for most, side in zip(wanted, size, strict=True) if most)
    else:
        factor = picture_options.outscale or scale
    width, height = (max(1, round(side * factor)) for side in size)
    return width, height


def read_source(
    path: Path,
    picture_options: PictureOptions,
    mask: Path | None = None,
    data: bytes | None = None,
    mask_data: bytes | None = None,
) -> Source:
    """Read a picture and its mask.

    Args:
        path: The file; with `data` only what messages call it.
        picture_options: Limits of reading, and what masks mean.
        mask: The file that marks the holes.
        data: The content of the file where that is in memory already.
        mask_data: That of the mask.

    Raises:
        InputError: when picture or mask cannot be read, or do not belong together.
    """
    limits = picture_options.max_pixels, picture_options.allow_truncated
    picture = read_picture(path, True, *limits, data)
    if picture_options.mask_from_alpha:
        # What is filled is no longer transparent.
        return Source(
            replace(picture, alpha=None),
            mask_from_alpha(picture, path, picture_options.mask_dilate),
        )
    if picture_options.alpha is AlphaMode.DROP:
        picture = replace(picture, alpha=None)
    if mask is None:
        return Source(picture)
    invert, dilate = picture_options.mask_invert, picture_options.mask_dilate
    return Source(picture, read_mask(mask, picture.size, invert, dilate, limits, mask_data))


def check_source(
    source: Source,
    path: Path,
    target: Path,
    format_: Format,
    picture_options: PictureOptions,
    scale: int,
    in_place: bool = False,
) -> None:
    """Refuse, before the slow part, a picture whose result its file could not hold.

    What of its metadata the file cannot hold is named in a warning.

    Args:
        source: What was read.
        path: Where from.
        target: Where its result goes.
        format_: Of the result.
        picture_options: What is done with it.
        scale: Of the network.
        in_place: Whether the result takes the place of the source, which then may lose nothing.

    Raises:
        InputError: when the format cannot hold it.
    """
    picture = source.picture
    if picture_options.background is not None:
        picture = replace(picture, alpha=None)
    picture = picture.for_format(format_)
    size = source.size_of_result(picture_options, scale)
    check_fit(target, size, picture.alpha is not None, picture.deep, format_)
    stripped = picture_options.strip_metadata
    check_metadata(target, format_, picture.stripped() if stripped else picture)
    check_notes(path, picture, format_, in_place, stripped)
