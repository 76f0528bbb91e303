"""Pictures to bytes, in each format."""

from __future__ import annotations

import io
from typing import IO, Any

import numpy as np
from PIL import Image

from diffir_cli.imaging.colours import set_nclx
from diffir_cli.imaging.deep import encode_deep
from diffir_cli.imaging.fitting import fit_metadata, stays_grey
from diffir_cli.imaging.formats import Format, load_extra_decoders
from diffir_cli.imaging.jpeg import segments_for
from diffir_cli.imaging.metadata import Metadata, software_exif
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.png import with_chunks
from diffir_cli.imaging.tiff import encode_tiff

_SETTINGS: dict[str, dict[str, Any]] = {
    # Full-resolution colour: halving it would blur what was just restored.
    "JPEG": {"quality": 95, "subsampling": 0},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"quality": 95},
    "JXL": {"quality": 95},
    "HEIF": {"quality": 95, "chroma": 444},
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
    if format_.extra:
        # A process of its own may not have met the format yet.
        load_extra_decoders()
    picture = picture.for_format(format_)
    metadata, _ = fit_metadata(picture, format_)
    pixels = picture.channels()
    if pixels.shape[2] < 3 and not stays_grey(picture, format_):
        pixels = np.concatenate([np.repeat(pixels[:, :, :1], 3, 2), pixels[:, :, 1:]], axis=2)
    if format_.name == "TIFF":
        encode_tiff(pixels, metadata, file)
    elif picture.deep:
        file.write(encode_deep(pixels, metadata))
    else:
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        settings = dict(_SETTINGS.get(format_.name, {}))
        if quality is not None:
            settings["quality"] = quality
        if lossless and format_.lossy:
            # Else colours under full transparency would be lost.
            settings |= {"lossless": True} | ({"exact": True} if format_.name == "WEBP" else {})
        if format_.name in ("PNG", "AVIF"):
            file.write(_described_later(image, format_, metadata, settings))
        else:
            image.save(file, format_.name, **settings, **_described(format_.name, metadata))


_COMPRESSION = 3
"""Of PNG: a photo takes 0.3 % more bytes than at 6, the usual level, and 0.4 of the time."""


def _described_later(
    image: Image.Image, format_: Format, metadata: Metadata, settings: dict[str, Any]
) -> bytes:
    """A file of a format in which Pillow cannot write all that is said of the picture."""
    buffer = io.BytesIO()
    if format_.name == "PNG":
        image.save(buffer, "PNG", compress_level=_COMPRESSION)
        return with_chunks(buffer.getvalue(), metadata)
    image.save(buffer, format_.name, **settings, **_described(format_.name, metadata))
    return set_nclx(buffer.getvalue(), metadata.cicp) if metadata.cicp else buffer.getvalue()


def _described(kind: str, metadata: Metadata) -> dict[str, Any]:
    """Arguments for Pillow about the picture."""
    if kind == "BMP":
        return {}
    exif = metadata.exif
    if exif is None and metadata.software:
        exif = software_exif(metadata.software)
    found: dict[str, Any] = {
        "exif": exif,
        "xmp": metadata.xmp,
        "icc_profile": metadata.icc,
        "dpi": metadata.dpi if kind == "JPEG" else None,
        "comment": metadata.comment if kind == "JPEG" else None,
        "extra": segments_for(metadata) if kind == "JPEG" else None,
    }
    if kind == "HEIF" and metadata.cicp:
        primaries, transfer, _ = metadata.cicp
        found |= {"color_primaries": primaries, "transfer_characteristics": transfer}
    return {name: value for name, value in found.items() if value}
