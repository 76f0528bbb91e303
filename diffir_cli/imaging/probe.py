"""What the header of a file says of its picture, without decoding it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile

from diffir_cli.errors import InputError
from diffir_cli.imaging.read import (
    check_depth,
    decode_errors,
    open_picture,
    pillow_limits,
    stored_depth,
)


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
    software: str = ""
    """What it says has made it."""


def probe_picture(
    path: Path, max_pixels: int, data: bytes | None = None, allow_truncated: bool = False
) -> Probe:
    """Look at a file.

    Args:
        path: The file; with `data` only what messages call it.
        max_pixels: Larger pictures are refused.
        data: Its content, or the start of it, where that is in memory already.
        allow_truncated: Whether it may end too early, where that can be seen without decoding.

    Raises:
        InputError: when it is no picture, cannot be read, or is too large.
    """
    if data is None and path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is not a regular file", "name a file")
    with (
        decode_errors(path, data, max_pixels),
        pillow_limits(max_pixels, allow_truncated),
        open_picture(path, data, max_pixels) as image,
    ):
        width, height = image.size
        exif, software = _notes(image, allow_truncated)
        if exif.get(ExifTags.Base.Orientation, 1) >= _LYING:
            width, height = height, width
        depth = stored_depth(image)
        check_depth(path, depth, True)
        kind = image.format or ""
        frames = 1 if kind == "MPO" else getattr(image, "n_frames", 1)
        alpha = image.has_transparency_data
        return Probe((width, height), kind, alpha, depth == 16, frames, software)


def _notes(image: Image.Image, allow_truncated: bool) -> tuple[Image.Exif, str]:
    """EXIF of a file, and what it says has made it.

    Pillow decodes every PNG that has no EXIF in front of its pixels, since there may be some
    behind them: here those chunks alone are read, as if they stood in front.
    """
    if isinstance(image, PngImageFile):
        exif, software = Image.Image.getexif(image), image.info.get("Software")
        if behind := _texts_behind_pixels(image, allow_truncated):
            with Image.open(io.BytesIO(behind), formats=["PNG"]) as other:
                exif = exif or Image.Image.getexif(other)
                software = software or other.info.get("Software")
    else:
        exif, software = image.getexif(), None
    software = software or exif.get(ExifTags.Base.Software)
    return exif, software.strip("\0 ") if isinstance(software, str) else ""


def _texts_behind_pixels(image: PngImageFile, allow_truncated: bool) -> bytes:
    """The chunks behind the pixels of a PNG in which EXIF or XMP may be, as a PNG without pixels.

    Raises:
        OSError: when the file ends too early and may not.
    """
    file = image.fp
    if file is None:
        return b""
    place = file.tell()
    try:
        file.seek(0)
        # The signature, and the chunk that every PNG begins with.
        header, texts, pixels = file.read(33), b"", False
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            pixels = pixels or kind == b"IDAT"
            if kind == b"IEND":
                break
            if pixels and kind in _TEXTS:
                texts += head + file.read(length + 4)
            else:
                file.seek(length + 4, os.SEEK_CUR)
        else:
            if not allow_truncated:
                raise OSError("image file is truncated")
        return header + texts + _NO_PIXELS if texts else b""
    finally:
        file.seek(place)


_LYING = 5
"""From this orientation on a picture lies on its side."""
_TEXTS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_NO_PIXELS = b"\0\0\0\0IDAT\x35\xaf\x06\x1e"
"""An empty chunk of pixels with its checksum."""
