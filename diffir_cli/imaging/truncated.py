"""PNGs of 16 bits a channel that end too early, made whole for a decoder that takes no others."""

from __future__ import annotations

import struct
import zlib

from diffir_cli.imaging.png import chunk

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
"""First column and row, and steps, of the passes of an interlaced PNG but the last."""
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""By a PNG's kind of colour."""


def completed(data: bytes) -> bytes:
    """A PNG of 16 bits a channel with zeros for the pixels that it lacks; others as they are.

    The header stays as it is, and the pixels as far as they can be inflated.
    """
    before, parts, place = [data[:8]], [], 8
    while len(head := data[place : place + 8]) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"IDAT":
            parts.append(data[place + 8 : place + 8 + length])
        elif not parts:
            before.append(data[place : place + 12 + length])
        place += 12 + length
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    pixels = b"".join(parts)
    if depth < 16 or not pixels:
        return data
    passes = [(width, height)]
    if interlaced:
        passes = [
            (-(-(width - left) // across), -(-(height - top) // down))
            for left, top, across, down in _PASSES
        ]
        passes.append((width, height // 2))
    pixel = _CHANNELS[colour] * 2
    size = sum(rows * (1 + columns * pixel) for columns, rows in passes if columns > 0 < rows)
    try:
        rows = zlib.decompressobj().decompress(pixels, size)
    except zlib.error:
        return data
    packed = zlib.compress(rows.ljust(size, b"\0"), 1)
    return b"".join([*before, chunk(b"IDAT", packed), chunk(b"IEND", b"")])
