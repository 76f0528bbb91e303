"""PNGs of 16 bits a channel, which Pillow would cut to 8, by OpenCV's codec."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffir_cli.errors import InputError
from diffir_cli.imaging.metadata import Metadata
from diffir_cli.imaging.png import chunk, with_chunks

Deep = NDArray[np.uint16]

# Its lines on stderr would stand beside our own.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_TURNS: dict[int, tuple[int, bool]] = {
    1: (0, False),
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (3, True),
    6: (3, False),
    7: (1, True),
    8: (1, False),
}
"""EXIF orientation to quarter turns against the clock, and a mirror left to right behind them."""


def decode_deep(data: bytes, path: Path, image: Image.Image) -> tuple[Deep, Deep | None]:
    """Colours (H, W, 3) and alpha (H, W) or None of a 16-bit PNG, upright.

    Args:
        data: The file.
        path: What messages call it.
        image: The same, opened by Pillow, which knows what it says.

    Raises:
        InputError: when it is damaged, or of a kind that cannot be read in 16 bits.
    """
    pixels = _decoded(data)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != image.size[::-1]:
        raise InputError(
            f"{path} cannot be read with 16 bits per channel",
            "save it as a 16-bit PNG with another program",
        )
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    colours, alpha = pixels[:, :, 2::-1], pixels[:, :, 3] if pixels.shape[2] == 4 else None
    if alpha is None:
        alpha = _keyed_out(colours, image.info.get("transparency"))
    orientation = image.getexif().get(0x0112, 1)
    return turned(colours, orientation), None if alpha is None else turned(alpha, orientation)


def turned(plane: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels, (H, W) or (H, W, C), upright."""
    turns, mirror = _TURNS.get(orientation, (0, False))
    upright = np.rot90(plane, turns)
    return np.ascontiguousarray(upright[:, ::-1] if mirror else upright)


def encode_deep(pixels: Deep, metadata: Metadata) -> bytes:
    """A PNG of (H, W, 1 to 4) channels in 16 bits."""
    if pixels.shape[2] == 2:
        return with_chunks(_grey_with_alpha(pixels), metadata)
    order = [0] if pixels.shape[2] == 1 else [2, 1, 0, 3][: pixels.shape[2]]
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, order]))
    assert done
    return with_chunks(data.tobytes(), metadata)


def _grey_with_alpha(pixels: Deep) -> bytes:
    """A PNG of (H, W, 2) channels, which OpenCV does not write: rows unfiltered and deflated."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, ">u2").reshape(height, -1).view(np.uint8)
    data = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _decoded(data: bytes) -> Any:
    """OpenCV's pixels, BGR where coloured; None where it finds none."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _keyed_out(colours: Deep, key: object) -> Deep | None:
    """Alpha of a picture in which one colour stands for nothing."""
    if isinstance(key, int):
        key = (key, key, key)
    if not (isinstance(key, tuple) and len(key) == 3):
        return None
    clear = (colours == np.array(key, np.uint16)).all(axis=2)
    return np.where(clear, 0, 65_535).astype(np.uint16)
