"""What stands in a file beside its pixels, in the way of each format."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

from PIL import Image

from diffir_cli.imaging.colours import colours_of_nclx, colours_of_png
from diffir_cli.imaging.jpeg import GAIN_MAP, beside_jpeg, with_jpeg_notes
from diffir_cli.imaging.jxl import read_jxl_notes
from diffir_cli.imaging.metadata import Metadata
from diffir_cli.imaging.png import Chunks, beside_png, scan_chunks, texts_of
from diffir_cli.imaging.xmp import without_further_pictures

START = 2**16
"""Bytes in which an AVIF or HEIF says what it is."""

_BMP_PROFILES = (b"DEBM", b"KNIL")
"""How a BMP says that it has a profile, embedded or linked."""


def with_notes(metadata: Metadata, image: Image.Image, data: bytes, grey: bool) -> Metadata:
    """Metadata with all else that a file says of its picture.

    Args:
        metadata: What Pillow knows of it.
        image: As Pillow opened it; decoded.
        data: The file.
        grey: Whether it has one channel of colour.
    """
    kind = image.format or ""
    if kind in ("JPEG", "MPO"):
        metadata = with_jpeg_notes(metadata, image)
    if kind == "PNG":
        chunks = scan_chunks(BytesIO(data))
        metadata = replace(metadata, texts=texts_of(image))
        # Code points (cICP, nclx) take precedence over a profile.
        if metadata.icc is None or b"cICP" in chunks.contents:
            icc, cicp = colours_of_png(chunks.contents, grey)
            metadata = replace(metadata, icc=icc or metadata.icc, cicp=cicp)
    if kind in ("AVIF", "HEIF") and metadata.icc is None:
        icc, cicp = colours_of_nclx(data[:START], grey)
        metadata = replace(metadata, icc=icc, cicp=cicp)
    if kind == "JXL":
        metadata = replace(metadata, xmp=metadata.xmp or read_jxl_notes(data).xmp)
    lost = (*metadata.lost, *beside_picture(image, data[:START], data))
    if metadata.xmp:
        packet = without_further_pictures(metadata.xmp)
        metadata = replace(metadata, xmp=packet)
        lost += () if packet else ("XMP",)
    return replace(metadata, lost=lost)


def beside_picture(
    image: Image.Image, start: bytes, data: bytes | None = None, chunks: Chunks | None = None
) -> tuple[str, ...]:
    """What else is in a file and has no place in a result, in words.

    Args:
        image: As Pillow opened it.
        start: The first bytes of the file.
        data: All of them, where they are at hand.
        chunks: Of a PNG, where they are known.
    """
    kind = image.format or ""
    if kind in ("JPEG", "MPO"):
        return beside_jpeg(image, data)
    if kind == "PNG":
        return beside_png(chunks or scan_chunks(BytesIO(data or start)))
    if kind in ("AVIF", "HEIF"):
        auxiliary = [str(name) for name in image.info.get("aux", {})]
        gain_map = b"tmap" in start or any("gainmap" in name.lower() for name in auxiliary)
        depth = bool(image.info.get("depth_images"))
        return (GAIN_MAP,) * gain_map + ("the depth map",) * depth
    if kind == "JXL":
        return read_jxl_notes(data or start).lost
    if kind == "BMP" and start[70:74] in _BMP_PROFILES and start[14] >= 124:
        return ("its colour profile",)
    return ()


def is_reduced(image: Image.Image, start: bytes) -> bool:
    """Whether the decoder of a file has cut its levels to 8 bits.

    Args:
        image: As Pillow opened it.
        start: The first bytes of the file.
    """
    if image.format == "JXL":
        return image.mode in ("L", "LA", "RGB", "RGBA") and read_jxl_notes(start).bits > 8
    if image.format == "AVIF":
        return _is_deep_avif(start)
    return bool(image.info.get("bit_depth", 8) > 8)


def _is_deep_avif(start: bytes) -> bool:
    """Whether the decoder's configuration of an AVIF says so; Pillow does not."""
    place = start.find(b"av1C")
    return place >= 0 and bool(start[place + 6 : place + 7] > b"" and start[place + 6] & 0x40)
