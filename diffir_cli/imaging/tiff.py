"""TIFF files of 8 or 16 bits a channel with all that is said about the picture.

Pillow writes no 16-bit colours, and no directories of EXIF beside compressed pixels; its directory
of tags is used, and the pixels are deflated here.
"""

from __future__ import annotations

import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

from diffir_cli.imaging.metadata import Metadata

LARGEST = 2**32 - 2**24
"""Bytes of pixels that a file can hold: its offsets have 32 bits."""

_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop)
_XMP, _PHOTOSHOP, _BYTE, _UNDEFINED = 700, 34377, 1, 7
_INCH = 2
_DEFLATE, _DIFFERENCES, _GREY, _RGB, _UNASSOCIATED = 8, 2, 1, 2, 2


def encode_tiff(pixels: NDArray[Any], metadata: Metadata, file: IO[bytes]) -> None:
    """Write (H, W, 1 to 4) channels of uint8 or uint16."""
    height, width, channels = pixels.shape
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    _describe(tags, metadata)
    data = _compressed(pixels)
    tags[TiffImagePlugin.IMAGEWIDTH] = width
    tags[TiffImagePlugin.IMAGELENGTH] = height
    tags[TiffImagePlugin.BITSPERSAMPLE] = (8 * pixels.itemsize,) * channels
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = _RGB if channels > 2 else _GREY
    if channels in (2, 4):
        tags[TiffImagePlugin.EXTRASAMPLES] = _UNASSOCIATED
    tags[TiffImagePlugin.COMPRESSION] = _DEFLATE
    tags[TiffImagePlugin.PREDICTOR] = _DIFFERENCES
    tags[TiffImagePlugin.PLANAR_CONFIGURATION] = 1
    tags[TiffImagePlugin.ROWSPERSTRIP] = height
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = len(data)
    # Counted from the end of the directory, behind which the pixels are.
    tags[TiffImagePlugin.STRIPOFFSETS] = 0
    tags.save(file)
    file.write(data)


def _describe(tags: TiffImagePlugin.ImageFileDirectory_v2, metadata: Metadata) -> None:
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        for tag, value in exif.items():
            tags[tag] = dict(exif.get_ifd(tag)) if tag in _DIRECTORIES else value
    if metadata.dpi:
        tags[ExifTags.Base.XResolution], tags[ExifTags.Base.YResolution] = metadata.dpi
        tags[ExifTags.Base.ResolutionUnit] = _INCH
    if metadata.software:
        tags[ExifTags.Base.Software] = metadata.software
    if metadata.icc:
        tags.tagtype[TiffImagePlugin.ICCPROFILE] = _UNDEFINED
        tags[TiffImagePlugin.ICCPROFILE] = metadata.icc
    if metadata.photoshop:
        tags.tagtype[_PHOTOSHOP] = _BYTE
        tags[_PHOTOSHOP] = metadata.photoshop
    if metadata.xmp:
        tags.tagtype[_XMP] = _BYTE
        tags[_XMP] = metadata.xmp


def _compressed(pixels: NDArray[Any]) -> bytes:
    """Differences along each row, deflated: little-endian, as Pillow's directory is."""
    rows = pixels.astype(pixels.dtype.newbyteorder("<"))
    rows[:, 1:] -= pixels[:, :-1]
    return zlib.compress(np.ascontiguousarray(rows).data)
