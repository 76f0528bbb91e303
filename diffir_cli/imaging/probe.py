"""What the header of a file says of its picture, without decoding it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from diffir_cli.errors import InputError
from diffir_cli.imaging.read import decode_errors, open_picture, pillow_limits, stored_depth


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
    frames: int = 1
    """Pictures in the file, of which the first counts; previews of a photo left out."""


def probe_picture(path: Path, max_pixels: int, data: bytes | None = None) -> Probe:
    """Look at a file.

    Args:
        path: The file; with `data` only what messages call it.
        max_pixels: Larger pictures are refused.
        data: Its content, or the start of it, where that is in memory already.

    Raises:
        InputError: when it is no picture, cannot be read, or is too large.
    """
    if data is None and path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is not a regular file", "name a file")
    with (
        decode_errors(path, data, max_pixels),
        pillow_limits(max_pixels, False),
        open_picture(path, data, max_pixels) as image,
    ):
        width, height = image.size
        if _exif(image).get(_ORIENTATION, 1) >= _LYING:
            width, height = height, width
        deep = stored_depth(image) == 16
        kind = image.format or ""
        frames = 1 if kind == "MPO" else getattr(image, "n_frames", 1)
        return Probe((width, height), kind, image.has_transparency_data, deep, frames)


def _exif(image: Image.Image) -> Image.Exif:
    """What a file says of its picture.

    Pillow decodes every PNG that has no EXIF in front of its pixels, since there may be some
    behind them: here only the headers of the chunks there are read.
    """
    if isinstance(image, PngImageFile) and not _has_text_behind_pixels(image):
        return Image.Image.getexif(image)
    return image.getexif()


def _has_text_behind_pixels(image: PngImageFile) -> bool:
    """Whether a PNG has chunks behind its pixels in which EXIF or XMP may be, or is damaged."""
    file = image.fp
    if file is None:
        return True
    place = file.tell()
    try:
        # The first of its chunks begins behind the signature.
        file.seek(8)
        pixels = False
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            pixels = pixels or kind == b"IDAT"
            if kind == b"IEND":
                return False
            if pixels and kind in _TEXTS:
                return True
            file.seek(length + 4, os.SEEK_CUR)
        return True
    finally:
        file.seek(place)


_ORIENTATION, _LYING = 0x0112, 5
_TEXTS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
