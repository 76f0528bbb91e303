"""Pixels of a TIFF, whatever their layout: planes, tiles, byte order, bits, alpha.

libtiff, through Pillow, unpacks each strip or tile to bytes and does no more; what the bytes mean
is read from the tags here. What has another kind of compression or colours is left to Pillow.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, TiffImagePlugin

from diffir_cli.errors import InputError
from diffir_cli.imaging.tiff_directory import Tags, TiffDirectory
from diffir_cli.imaging.tiff_layout import (
    BLACK_IS_ZERO,
    CMYK,
    DIFFERENCES,
    FLOAT,
    FLOAT_DIFFERENCES,
    UNCOMPRESSED,
    WHITE_IS_ZERO,
    Layout,
)


def read_planes(
    file: IO[bytes], path: Path, directory: TiffDirectory, layout: Layout
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Colours (H, W, 1, 3 or 4) and alpha (H, W) or None, of uint8 or uint16, not upright yet.

    Args:
        file: The TIFF.
        path: What messages call it.
        directory: Its tags.
        layout: How its pixels lie.

    Raises:
        InputError: when it holds numbers that are no levels of a picture.
        OSError: when it is damaged or ends early.
    """
    samples = _samples(file, directory, layout)
    if layout.form == FLOAT:
        samples = _levels(samples, path)
    elif layout.bits not in (8, 16):
        white = 2**layout.bits - 1
        samples = ((samples.astype(np.uint32) * 65_535 + white // 2) // white).astype(np.uint16)
    colours = samples[:, :, : layout.colours]
    if layout.kind == WHITE_IS_ZERO:
        colours = np.iinfo(samples.dtype).max - colours
    if layout.kind == CMYK and samples.dtype == np.uint16:
        colours = (colours >> 8).astype(np.uint8)
    if layout.alpha is None:
        return np.ascontiguousarray(colours), None
    alpha = np.ascontiguousarray(samples[:, :, layout.alpha])
    if layout.associated:
        colours = _straight(colours, alpha)
    return np.ascontiguousarray(colours), alpha


def _straight(colours: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Colours that were multiplied by alpha, divided by it again."""
    white = np.iinfo(alpha.dtype).max
    opacity = np.maximum(alpha, 1).astype(np.float32)[:, :, None] / white
    return np.rint(colours / opacity).clip(0, white).astype(alpha.dtype)


def _levels(samples: NDArray[Any], path: Path) -> NDArray[np.uint16]:
    """Floating-point numbers of 0 to 1 as levels of 16 bits.

    Raises:
        InputError: when there are others.
    """
    low, high = float(samples.min()), float(samples.max())
    # Rounding takes whites a little over 1.
    if not (low >= -0.001 and high <= 1.001):
        raise InputError(
            f"{path} holds floating-point numbers from {low:g} to {high:g}, but only 0 to 1 can be "
            "read",
            "save it with 16-bit integers with another program",
        )
    scaled = np.multiply(samples.clip(0, 1), 65_535, dtype=np.float64)
    return np.rint(scaled, out=scaled).astype(np.uint16)


def _samples(file: IO[bytes], directory: TiffDirectory, layout: Layout) -> NDArray[Any]:
    """(H, W, samples) as the file has them, in the machine's byte order."""
    width, height = layout.size
    wide, high = layout.block
    across, down = math.ceil(width / wide), math.ceil(height / high)
    each = layout.samples // layout.planes
    row = math.ceil(wide * each * layout.bits / 8)
    # The last strip has only the rows that are left; tiles are always whole.
    rows = high * across * down if layout.tiled else height
    # Before lists of so many lengths are made.
    count = (across if layout.tiled else 1) * down * layout.planes
    if len(_offsets(directory, layout)) < count:
        raise OSError("some of its strips or tiles are missing")
    lengths = [row * min(high, rows - top) for top in range(0, rows, high)]
    parts = list(_blocks(file, directory, layout, lengths * layout.planes))
    planes = []
    for plane in range(layout.planes):
        of_plane = parts[plane * len(lengths) : (plane + 1) * len(lengths)]
        data = _unpacked(of_plane, layout.compression, (row, rows), high)
        numbers = _numbers(data, layout, wide * each).reshape(rows, wide, each)
        if layout.tiled:
            grid = numbers.reshape(down, across, high, wide, each).transpose(0, 2, 1, 3, 4)
            numbers = grid.reshape(down * high, across * wide, each)[:height, :width]
        planes.append(numbers)
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)


def _offsets(directory: TiffDirectory, layout: Layout) -> tuple[int, ...]:
    """Where each tile or strip begins."""
    return directory.values(TiffImagePlugin.TILEOFFSETS if layout.tiled else 273)


def _blocks(
    file: IO[bytes], directory: TiffDirectory, layout: Layout, unpacked: list[int]
) -> Iterator[bytes]:
    """The content of each tile or strip, packed as it is.

    Args:
        file: The TIFF.
        directory: Its tags.
        layout: How its pixels lie.
        unpacked: Bytes of each once it is unpacked.
    """
    offsets = _offsets(directory, layout)
    lengths = directory.values(TiffImagePlugin.TILEBYTECOUNTS if layout.tiled else 279)
    if layout.compression == UNCOMPRESSED:
        # Some programs write none, or wrong ones.
        lengths = tuple(unpacked)
    if min(len(offsets), len(lengths)) < len(unpacked):
        raise OSError("some of its strips or tiles are missing")
    lengths = lengths[: len(unpacked)]
    # Some blank ones may share their place.
    if sum(lengths) > max(file.seek(0, os.SEEK_END), sum(unpacked)):
        raise OSError("its strips or tiles overlap")
    for offset, length in zip(offsets, lengths, strict=False):
        file.seek(offset)
        data = file.read(length)
        if len(data) < length and not ImageFile.LOAD_TRUNCATED_IMAGES:
            raise OSError("it ends within its pixels")
        yield data.ljust(length, b"\0") if layout.compression == UNCOMPRESSED else data


def _unpacked(
    blocks: list[bytes], compression: int, size: tuple[int, int], high: int
) -> NDArray[np.uint8]:
    """(rows, bytes of a row) of blocks that lie below each other."""
    width, rows = size
    if compression == UNCOMPRESSED:
        return np.frombuffer(b"".join(blocks), np.uint8).reshape(rows, width)
    # As a grey picture of 8 bits, of which libtiff changes no byte.
    tags, packed = Tags(), b"".join(blocks)
    ends = np.cumsum([0, *(len(block) for block in blocks)])
    for tag, value in {
        TiffImagePlugin.IMAGEWIDTH: width,
        TiffImagePlugin.IMAGELENGTH: rows,
        TiffImagePlugin.BITSPERSAMPLE: 8,
        TiffImagePlugin.COMPRESSION: compression,
        TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: BLACK_IS_ZERO,
        TiffImagePlugin.SAMPLESPERPIXEL: 1,
        TiffImagePlugin.ROWSPERSTRIP: high,
        # Counted from the end of the directory, behind which the pixels are.
        TiffImagePlugin.STRIPOFFSETS: tuple(int(end) for end in ends[:-1]),
        TiffImagePlugin.STRIPBYTECOUNTS: tuple(len(block) for block in blocks),
    }.items():
        tags[tag] = value
    stand_in = io.BytesIO()
    tags.save(stand_in)
    stand_in.write(packed)
    stand_in.seek(0)
    with _Bytes(stand_in) as image:
        return np.asarray(image)


class _Bytes(TiffImagePlugin.TiffImageFile):
    """Bytes of a picture as a grey one: Pillow's limit of pixels is not meant for them."""

    def load_prepare(self) -> None:
        ImageFile.ImageFile.load_prepare(self)


def _numbers(data: NDArray[np.uint8], layout: Layout, count: int) -> NDArray[Any]:
    """(rows, count) numbers of rows of bytes."""
    each, size = layout.samples // layout.planes, layout.bits // 8
    if layout.predictor == FLOAT_DIFFERENCES:
        summed = np.cumsum(data.reshape(len(data), -1, each), axis=1, dtype=np.uint8)
        # All first bytes of a row's numbers, then all second ones.
        parts = summed.reshape(len(data), size, count).transpose(0, 2, 1)
        return np.ascontiguousarray(parts).view(f">f{size}")[:, :, 0].astype(f"f{size}")
    if layout.bits in (8, 16, 32, 64):
        order = "<" if layout.little else ">"
        kind = "f" if layout.form == FLOAT else "u"
        numbers = np.ascontiguousarray(data).view(f"{order}{kind}{size}").astype(f"{kind}{size}")
        if layout.predictor == DIFFERENCES:
            whole = numbers.view(f"u{size}").reshape(len(data), -1, each)
            summed = np.cumsum(whole, axis=1, dtype=whole.dtype).reshape(len(data), count)
            numbers = summed.view(numbers.dtype)
        return numbers
    found = np.empty((len(data), count), np.uint16)
    places = 2 ** np.arange(layout.bits - 1, -1, -1, dtype=np.uint16)
    for top in range(0, len(data), 64):
        bits = np.unpackbits(data[top : top + 64], axis=1, count=count * layout.bits)
        found[top : top + 64] = bits.reshape(len(bits), count, layout.bits) @ places
    return found
