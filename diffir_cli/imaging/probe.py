"""What the header of a file says of its picture, without decoding it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, ImageFile
from PIL.PngImagePlugin import PngImageFile

from diffir_cli.errors import InputError
from diffir_cli.imaging.fitting import LEVELS
from diffir_cli.imaging.notes import START, beside_picture, is_reduced
from diffir_cli.imaging.opening import (
    check_size,
    decode_errors,
    open_picture,
    opened_file,
    pillow_limits,
)
from diffir_cli.imaging.picture import is_transparent
from diffir_cli.imaging.png import Chunks, scan_chunks
from diffir_cli.imaging.raw import raw_error, starts_raw
from diffir_cli.imaging.read import check_depth, read_picture, stored_depth, tiff_errors
from diffir_cli.imaging.tiff_read import open_tiff
from diffir_cli.util.files import check_reachable


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
    lost: tuple[str, ...] = ()
    """What else is in the file, in words, and would not be in a result."""
    software: str = ""
    """What it says has made it."""


def probe_picture(
    path: Path,
    max_pixels: int,
    data: bytes | None = None,
    allow_truncated: bool = False,
    holds_alpha: Callable[[str], bool] | None = None,
) -> Probe:
    """Look at a file.

    Args:
        path: The file; with `data` only what messages call it.
        max_pixels: Larger pictures are refused.
        data: Its content, or the start of it, where that is in memory already.
        allow_truncated: Whether it may end too early, where that can be seen without decoding.
        holds_alpha: Whether the result of a file of a format, as Pillow calls it, can be
            transparent. Where it cannot, a picture with an alpha channel is decoded to see whether
            anything in it is transparent. None where that does not matter.

    Raises:
        InputError: when it is no picture, cannot be read, or is too large.
    """
    if data is None:
        check_reachable(path)
    if data is None and path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is not a regular file", "name a file")
    with decode_errors(path, data, max_pixels), pillow_limits(max_pixels, allow_truncated):
        probe = _probe(path, max_pixels, data)
    if probe.alpha and holds_alpha is not None and not holds_alpha(probe.format):
        alpha = read_picture(path, True, max_pixels, allow_truncated, data).alpha
        return replace(probe, alpha=alpha is not None and is_transparent(alpha))
    return probe


def _probe(path: Path, max_pixels: int, data: bytes | None) -> Probe:
    with opened_file(path, data) as file:
        start = file.read(START)
        if starts_raw(start):
            raise raw_error(path)
        tiff = open_tiff(file, path)
        if tiff is None:
            return _probe_with_pillow(path, max_pixels, data, file, start)
        directory, layout = tiff
        if layout is None:
            with tiff_errors(path, directory):
                probe = _probe_with_pillow(path, max_pixels, data, file, start)
            return replace(probe, frames=directory.frames, lost=directory.lost(0))
        check_size(path, directory.size, max_pixels)
        width, height = directory.size
        size = (height, width) if directory.orientation >= _LYING else (width, height)
        alpha = layout.alpha is not None
        lost = directory.lost(layout.spare) + (LEVELS,) * layout.reduced
        made_by = _software(directory.exif)
        return Probe(size, "TIFF", alpha, layout.deep, directory.frames, lost, made_by)


def _probe_with_pillow(
    path: Path, max_pixels: int, data: bytes | None, file: IO[bytes], start: bytes
) -> Probe:
    with open_picture(path, data, max_pixels) as image:
        width, height = image.size
        chunks = scan_chunks(file) if isinstance(image, PngImageFile) else Chunks({})
        exif, software = _notes(image, chunks)
        if exif.get(ExifTags.Base.Orientation, 1) >= _LYING:
            width, height = height, width
        depth = stored_depth(image)
        check_depth(path, depth, True)
        kind = image.format or ""
        frames = 1 if kind == "MPO" else getattr(image, "n_frames", 1)
        lost = beside_picture(image, start, chunks=chunks)
        lost += (LEVELS,) * is_reduced(image, start)
        alpha = image.has_transparency_data
        return Probe((width, height), kind, alpha, depth == 16, frames, lost, software)


def _notes(image: Image.Image, chunks: Chunks) -> tuple[Image.Exif, str]:
    """EXIF of a file, and what it says has made it.

    Pillow decodes every PNG that has no EXIF in front of its pixels, since there may be some
    behind them: here those chunks alone are read, as if they stood in front.

    Raises:
        OSError: when a PNG ends too early and may not.
    """
    if not isinstance(image, PngImageFile):
        exif = image.getexif()
        return exif, _software(exif)
    if chunks.truncated and not ImageFile.LOAD_TRUNCATED_IMAGES:
        raise OSError("image file is truncated")
    exif, software = Image.Image.getexif(image), image.info.get("Software")
    if chunks.texts_behind:
        with Image.open(io.BytesIO(chunks.texts_behind), formats=["PNG"]) as other:
            exif = exif or Image.Image.getexif(other)
            software = software or other.info.get("Software")
    return exif, _software(exif, software)


def _software(exif: Image.Exif, named: object = None) -> str:
    found = named or exif.get(ExifTags.Base.Software)
    return found.strip("\0 ") if isinstance(found, str) else ""


_LYING = 5
"""From this orientation on a picture lies on its side."""
