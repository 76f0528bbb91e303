"""Image files to pictures: decoded by content, turned upright, eight bits a channel."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from diffir_cli.errors import InputError
from diffir_cli.imaging.deep import decode_deep
from diffir_cli.imaging.formats import (
    DECODED,
    EXTRA_DECODED,
    IMAGE_SUFFIXES,
    INSTALL_EXTRA,
    load_extra_decoders,
    looks_extra,
)
from diffir_cli.imaging.metadata import read_directories, read_metadata
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.truncated import completed

MAX_PIXELS = 178_956_970
"""Larger pictures are refused before they are decoded: where Pillow sees a decompression bomb."""

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
        return _decode(path, data, deep, max_pixels, allow_truncated)


@contextmanager
def decode_errors(path: Path, data: bytes | None, max_pixels: int) -> Iterator[None]:
    """Turn whatever goes wrong with a file in the block into one sentence about it.

    Raises:
        InputError: when anything does.
    """
    try:
        if data is None and path.is_dir():
            raise InputError(f"{path} is a folder, not an image", "name one of the images in it")
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}", "check the name and the folder") from error
    except PermissionError as error:
        raise InputError(f"no permission to read {path}", f"chmod u+r '{path}'") from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, "a decompression bomb", max_pixels) from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"cannot read {path}: not a supported image",
            _readable_hint(path, data),
        ) from error
    # A malformed file makes a decoder raise almost anything.
    except Exception as error:
        raise InputError(
            f"cannot read {path}: the file is damaged or incomplete ({error})",
            "copy or download it again, or save it as PNG with another program",
        ) from error


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


_pillow = threading.Lock()


@contextmanager
def pillow_limits(max_pixels: int, allow_truncated: bool) -> Iterator[None]:
    """Pillow's limits and warnings, which belong to the whole process, for one picture."""
    with _pillow, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        # Pillow refuses what is more than twice its limit.
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
        ImageFile.LOAD_TRUNCATED_IMAGES = allow_truncated
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _decode(
    path: Path, data: bytes | None, deep: bool, max_pixels: int, allow_truncated: bool
) -> Picture:
    with open_picture(path, data, max_pixels) as image:
        depth, grey_with_alpha = stored_depth(image), _is_grey_with_alpha(image)
        check_depth(path, depth, deep)
        frames = getattr(image, "n_frames", 1)
        read_directories(image)
        upright = ImageOps.exif_transpose(image)
        if depth == 16:
            icc = None if image.mode == "CMYK" else image.info.get("icc_profile")
            grey = image.mode.startswith("I;16") or grey_with_alpha
            content = path.read_bytes() if data is None else data
            if allow_truncated:
                content = completed(content, image)
            planes = decode_deep(content, path, image)
            picture = Picture(*planes, grey, read_metadata(image, upright, icc))
        else:
            picture = _shallow(image, upright)
        kind = image.format or ""
        if image.info.get("bit_depth", 8) > 8 or (kind == "AVIF" and _is_deep_avif(path, data)):
            _log.warning("%s has more than 8 bits per channel: reduced to 8", path)
    # The further pictures of an MPO are previews or the view of a second lens.
    if frames > 1 and kind != "MPO":
        _log.warning("%s has %d frames: only the first is used", path, frames)
    return replace(picture, format=kind)


def open_picture(path: Path, data: bytes | None, max_pixels: int) -> Image.Image:
    """The image, by its content, not decoded yet; extra libraries only where no other fits.

    Raises:
        InputError: when it is too large.
        UnidentifiedImageError: when it is no picture.
        OSError: when it cannot be read.
    """
    source = path if data is None else io.BytesIO(data)
    try:
        image = Image.open(source, formats=DECODED)
    except UnidentifiedImageError:
        found = load_extra_decoders()
        if not found:
            raise
        image = Image.open(source, formats=[name for name in EXTRA_DECODED if name in found])
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise _too_large(path, f"{width}×{height} pixels", max_pixels)
    return image


def _is_deep_avif(path: Path, data: bytes | None) -> bool:
    """Whether the decoder's configuration of an AVIF says so; Pillow does not."""
    start = data
    if start is None:
        with path.open("rb") as file:
            start = file.read(2**16)
    place = start.find(b"av1C")
    return place >= 0 and bool(start[place + 6 : place + 7] > b"" and start[place + 6] & 0x40)


def _shallow(image: Image.Image, upright: Image.Image) -> Picture:
    """A picture of 8 bits a channel from an image and the same turned upright."""
    metadata = read_metadata(
        image, upright, None if image.mode == "CMYK" else image.info.get("icc_profile")
    )
    grey = upright.mode in ("1", "L", "LA")
    alpha = None
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        alpha = np.asarray(upright.getchannel("A"))
    return Picture(np.asarray(upright.convert("RGB")), alpha, grey, metadata)


def _readable_hint(path: Path, data: bytes | None) -> str:
    """What may help with a file that no decoder knows."""
    start = data or b""
    if data is None:
        with suppress(OSError), path.open("rb") as file:
            start = file.read(16)
    if looks_extra(start):
        return INSTALL_EXTRA
    return "use a PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF file"


def _is_grey_with_alpha(image: Image.Image) -> bool:
    """Whether a 16-bit file, which Pillow calls RGBA, is really grey."""
    return any("LA" in str(tile[3]) for tile in getattr(image, "tile", []))


def stored_depth(image: Image.Image) -> int:
    """Bits a channel of the file, which Pillow's mode does not always tell."""
    if image.mode in ("I", "F"):
        return 32
    described = " ".join(str(tile[3]) for tile in getattr(image, "tile", []))
    return 16 if image.mode.startswith("I;16") or ";16" in described else 8


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


def _too_large(path: Path, size: str, limit: int) -> InputError:
    return InputError(
        f"{path} is too large: {size}; the limit is {limit:,} pixels",
        "raise --max-pixels, or cut or shrink it with another program",
    )
