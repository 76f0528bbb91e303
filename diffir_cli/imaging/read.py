"""Image files to pictures: decoded by content, turned upright, eight bits a channel."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from diffir_cli.errors import InputError
from diffir_cli.imaging.deep import decode_deep
from diffir_cli.imaging.formats import IMAGE_SUFFIXES
from diffir_cli.imaging.metadata import read_metadata
from diffir_cli.imaging.notes import START, is_reduced, with_notes
from diffir_cli.imaging.opening import (
    MAX_PIXELS,
    check_size,
    decode_errors,
    open_picture,
    opened_file,
    pillow_limits,
)
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.profiled import cmyk_to_rgb
from diffir_cli.imaging.raw import raw_error, starts_raw
from diffir_cli.imaging.tiff_directory import TiffDirectory
from diffir_cli.imaging.tiff_layout import describe
from diffir_cli.imaging.tiff_read import open_tiff, read_tiff, unreadable
from diffir_cli.imaging.truncated import completed

_log = logging.getLogger(__name__)


def read_picture(
    path: Path,
    deep: bool = False,
    max_pixels: int = MAX_PIXELS,
    allow_truncated: bool = False,
    data: bytes | None = None,
) -> Picture:
    """Decode a file.

    Args:
        path: The file; with `data` only what messages call it.
        deep: Whether 16 bits a channel are wanted where the file has them.
        max_pixels: Larger pictures are refused before they are decoded.
        allow_truncated: Whether a file that ends too early may give what there is, grey below.
        data: Its content where that is in memory already.

    Raises:
        InputError: when it is absent, no image, truncated, too large or deeper than can be kept.
    """
    with decode_errors(path, data, max_pixels), pillow_limits(max_pixels, allow_truncated):
        return _decode(path, data, deep, max_pixels)


def read_levels(
    path: Path,
    max_pixels: int = MAX_PIXELS,
    allow_truncated: bool = False,
    data: bytes | None = None,
) -> NDArray[np.uint8]:
    """The colours of a file, (H, W, 3) in 0–255; 16 bits a channel are rounded to 8.

    Args:
        path: The file; with `data` only what messages call it.
        max_pixels: Larger pictures are refused before they are decoded.
        allow_truncated: Whether a file that ends too early may give what there is, grey below.
        data: Its content where that is in memory already.

    Raises:
        InputError: when it is absent, no image, truncated, or too large.
    """
    rgb = read_picture(path, True, max_pixels, allow_truncated, data).rgb
    if rgb.dtype == np.uint8:
        return rgb
    levels = np.empty(rgb.shape, np.uint8)
    for channel in range(3):
        levels[:, :, channel] = np.rint(rgb[:, :, channel] / np.float32(257))
    return levels


def picture_from(image: Image.Image) -> Picture:
    """A picture from Pillow's, turned upright as its EXIF says.

    Raises:
        InputError: when it has 32 bits a channel.
    """
    if image.mode in ("I", "F"):
        raise InputError(
            "images with 32 bits per channel are not supported", "convert it to 8 or 16 bits first"
        )
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if not image.mode.startswith("I;16"):
        return _shallow(image, ImageOps.exif_transpose(image))
    upright = ImageOps.exif_transpose(image)
    grey = np.asarray(upright).astype(np.uint16)
    metadata = read_metadata(image, upright, image.info.get("icc_profile"))
    return Picture(np.repeat(grey[:, :, None], 3, axis=2), None, True, metadata)


def list_pictures(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name; hidden ones left out.

    Raises:
        InputError: when there is no such folder or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}", "check its name")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise InputError(
            f"no images in {folder}",
            f"supported extensions are {', '.join(sorted(IMAGE_SUFFIXES))}",
        )
    return paths


def _decode(path: Path, data: bytes | None, deep: bool, max_pixels: int) -> Picture:
    with opened_file(path, data) as file:
        if starts_raw(file.read(16)):
            raise raw_error(path)
        tiff = open_tiff(file, path)
        if tiff is None:
            file.seek(0)
            return _with_pillow(path, file.read(), deep, max_pixels)
        directory, layout = tiff
        check_size(path, directory.size, max_pixels)
        if layout is None:
            with tiff_errors(path, directory):
                return _with_pillow(path, data, deep, max_pixels, directory)
        check_depth(path, 16 if layout.deep else 8, deep)
        picture = read_tiff(file, path, directory, layout)
    _warn_of_depth(path, picture)
    _warn_of_frames(path, directory.frames)
    return picture


def _with_pillow(
    path: Path,
    data: bytes | None,
    deep: bool,
    max_pixels: int,
    directory: TiffDirectory | None = None,
) -> Picture:
    """A picture that Pillow decodes; what it says is in `directory` where it is a TIFF."""
    with open_picture(path, data, max_pixels) as image:
        kind = image.format or ""
        # Once it is decoded, an image no longer has it.
        depth, grey_with_alpha = stored_depth(image), _is_grey_with_alpha(image)
        check_depth(path, depth, deep)
        frames = getattr(image, "n_frames", 1)
        upright = ImageOps.exif_transpose(image)
        if depth == 16 and kind == "PNG":
            assert data is not None
            icc = image.info.get("icc_profile")
            grey = image.mode.startswith("I;16") or grey_with_alpha
            whole = completed(data) if ImageFile.LOAD_TRUNCATED_IMAGES else data
            planes = decode_deep(whole, path, image)
            picture = Picture(*planes, grey, read_metadata(image, upright, icc))
        elif depth == 16 and kind == "TIFF":
            raise unreadable(path, f"16 bits per channel of mode {image.mode}")
        else:
            picture = picture_from(image)
        if directory is not None:
            metadata = directory.metadata()
            icc = picture.metadata.icc and metadata.icc
            picture = replace(picture, metadata=replace(metadata, icc=icc))
        if data is not None:
            noted = with_notes(picture.metadata, image, data, picture.grey)
            reduced = is_reduced(image, data[:START])
            picture = replace(picture, metadata=noted, reduced=reduced)
            _warn_of_depth(path, picture)
    # The further pictures of an MPO are previews or the view of a second lens.
    if kind != "MPO":
        _warn_of_frames(path, directory.frames if directory else frames)
    return replace(picture, format=kind)


@contextmanager
def tiff_errors(path: Path, directory: TiffDirectory) -> Iterator[None]:
    """Say of a TIFF that Pillow cannot read in the block what is unusual about it.

    Raises:
        InputError: when it cannot read it.
    """
    try:
        yield
    except (InputError, MemoryError, Image.DecompressionBombError):
        raise
    # A decoder raises almost anything.
    except Exception as error:
        raise unreadable(path, describe(directory)) from error


def check_depth(path: Path, depth: int, deep: bool) -> None:
    """Refuse more bits a channel than are kept: 16, or 8 where `deep` is false.

    Raises:
        InputError: when there are more.
    """
    most = 16 if deep else 8
    if depth > most:
        raise InputError(
            f"{path} has {depth} bits per channel, but only {most} are kept here",
            f"convert it to {most} bits first",
        )


def _warn_of_frames(path: Path, frames: int) -> None:
    if frames > 1:
        _log.warning("%s has %d frames: only the first is used", path, frames)


def _warn_of_depth(path: Path, picture: Picture) -> None:
    if picture.reduced:
        bits = 16 if picture.deep else 8
        _log.warning("%s has more than %d bits per channel: reduced to %d", path, bits, bits)


def _shallow(image: Image.Image, upright: Image.Image) -> Picture:
    """A picture of 8 bits a channel from an image and the same turned upright."""
    icc = image.info.get("icc_profile")
    # What is converted is sRGB.
    profile = None if image.mode in ("CMYK", "LAB") else icc
    metadata = read_metadata(image, upright, profile)
    if image.mode == "CMYK":
        upright = cmyk_to_rgb(upright, icc)
    grey = upright.mode in ("1", "L", "LA")
    alpha = None
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        alpha = np.asarray(upright.getchannel("A"))
    return Picture(np.asarray(upright.convert("RGB")), alpha, grey, metadata)


def _is_grey_with_alpha(image: Image.Image) -> bool:
    """Whether a 16-bit file, which Pillow calls RGBA, is really grey."""
    return any("LA" in str(tile[3]) for tile in getattr(image, "tile", []))


def stored_depth(image: Image.Image) -> int:
    """Bits a channel of the file, which Pillow's mode does not always tell."""
    if image.mode in ("I", "F"):
        return 32
    if image.mode.startswith("I;16"):
        return 16
    # Elsewhere the same words are bits a pixel.
    described = " ".join(str(tile[3]) for tile in getattr(image, "tile", []))
    return 16 if image.format in ("PNG", "TIFF") and ";16" in described else 8
