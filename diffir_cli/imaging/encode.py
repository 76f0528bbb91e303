"""Pictures to bytes, in each format."""

from __future__ import annotations

from dataclasses import replace
from typing import IO, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffir_cli.imaging.deep import encode_deep
from diffir_cli.imaging.formats import Format
from diffir_cli.imaging.metadata import Metadata, software_exif
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.tiff import encode_tiff

_SETTINGS: dict[str, dict[str, Any]] = {
    # Full-resolution colour: halving it would blur what was just restored.
    "JPEG": {"quality": 95, "subsampling": 0},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"quality": 95},
    "JXL": {"quality": 95},
}


def encode(
    picture: Picture,
    format_: Format,
    file: IO[bytes],
    quality: int | None = None,
    lossless: bool = False,
) -> None:
    """Write a picture with what is said about it.

    Args:
        picture: What to write; it must fit the format.
        format_: How.
        file: Where to.
        quality: Of a lossy format, 1 to 100; None for 95.
        lossless: Whether a lossy format that can lose nothing does so.

    Raises:
        OSError: when the file or the encoder fails.
    """
    pixels = picture.channels()
    if format_.name == "TIFF":
        if picture.deep and pixels.shape[2] == 2:
            # Grey with alpha in 16 bits is more than most programs read of a TIFF.
            pixels = np.concatenate([np.repeat(pixels[:, :, :1], 3, 2), pixels[:, :, 1:]], axis=2)
        encode_tiff(pixels, _fitting(format_, picture.metadata, pixels.shape[2]), file)
    elif picture.deep:
        file.write(encode_deep(pixels, picture.metadata))
    else:
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        settings = dict(_SETTINGS.get(format_.name, {}))
        if quality is not None:
            settings["quality"] = quality
        if lossless and format_.lossy:
            # Else colours under full transparency would be lost.
            settings |= {"lossless": True} | ({"exact": True} if format_.name == "WEBP" else {})
        metadata = _fitting(format_, picture.metadata, pixels.shape[2])
        image.save(file, format_.name, **settings, **_described(format_.name, metadata))


def _fitting(format_: Format, metadata: Metadata, channels: int) -> Metadata:
    """The metadata without a profile for grey where the file has colours."""
    coloured = channels > 2 or not format_.grey
    if metadata.icc and coloured and metadata.icc[16:20] == b"GRAY":
        return replace(metadata, icc=None)
    return metadata


_COMPRESSION = 3
"""Of PNG: a photo takes 0.3 % more bytes than at 6, the usual level, and 0.4 of the time."""


def _described(kind: str, metadata: Metadata) -> dict[str, Any]:
    """What Pillow is told to write about the picture."""
    if kind == "BMP":
        return {}
    exif = metadata.exif
    if kind == "PNG":
        notes = PngInfo()
        if metadata.software:
            notes.add_text("Software", metadata.software)
        if metadata.xmp:
            notes.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
        found: dict[str, Any] = {"pnginfo": notes, "compress_level": _COMPRESSION}
    else:
        found = {"xmp": metadata.xmp} if metadata.xmp else {}
        if exif is None and metadata.software:
            exif = software_exif(metadata.software)
    if exif:
        found["exif"] = exif
    if metadata.icc:
        found["icc_profile"] = metadata.icc
    if metadata.dpi and kind in ("PNG", "JPEG"):
        found["dpi"] = metadata.dpi
    return found
