"""Chunks of a PNG: what they say of its picture, and how they are written."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from PIL import Image

from diffir_cli.imaging.metadata import Metadata

LONGEST_TEXT = 2**25
"""Bytes that a profile or a text may unfold to: JPEG holds profiles of up to 2**24."""

_HEADER_END = 8 + 25
"""Where chunks may be put in: behind signature and IHDR."""

_XMP, _COMMENT = "XML:com.adobe.xmp", "Comment"
_GIVEN_BACK = (
    _XMP,
    "Software",
    "Raw profile type exif",
    "Raw profile type xmp",
    "Raw profile type APP1",
)
"""Keywords of what is given back by itself."""

_COLOUR_CHUNKS = (b"cICP", b"gAMA", b"cHRM", b"sRGB")
_TEXTS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")


@dataclass(frozen=True)
class Chunks:
    """The chunks of a PNG."""

    contents: Mapping[bytes, bytes]
    """By kind; empty but for those about colours."""
    texts_behind: bytes = b""
    """Those behind the pixels in which EXIF or XMP may be, as a PNG without pixels; empty where
    there are none."""
    truncated: bool = False
    """Whether the file ends too early."""


def scan_chunks(file: IO[bytes]) -> Chunks:
    """All chunks of a PNG, without decoding anything."""
    found: dict[bytes, bytes] = {}
    texts: list[bytes] = []
    file.seek(0)
    header = file.read(_HEADER_END)
    # The first chunk begins behind the signature.
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        content = file.read(length) if kind in _COLOUR_CHUNKS and length < 100 else b""
        found.setdefault(kind, content)
        if kind == b"IEND":
            break
        if b"IDAT" in found and kind in _TEXTS:
            texts.append(head + file.read(length + 4))
        else:
            file.seek(length + 4 - len(content), os.SEEK_CUR)
    texts_behind = b"".join([header, *texts, chunk(b"IDAT", b"")]) if texts else b""
    return Chunks(found, texts_behind, b"IEND" not in found)


def beside_png(chunks: Chunks) -> tuple[str, ...]:
    """What else is in a PNG and has no place in a result."""
    names = {
        b"caBX": "the content credentials (C2PA)",
        b"mDCV": "the mastering display (mDCV)",
        b"cLLI": "the light levels (cLLI)",
    }
    return tuple(name for kind, name in names.items() if kind in chunks.contents)


def texts_of(image: Image.Image) -> tuple[tuple[str, str], ...]:
    """Keywords and texts of a PNG that has been decoded, but those that are given back anyway."""
    texts: dict[str, object] = getattr(image, "text", {})
    return tuple(
        (key, str(text))
        for key, text in texts.items()
        if key not in _GIVEN_BACK and not key.startswith("Thumb::")
    )


def with_chunks(png: bytes, metadata: Metadata) -> bytes:
    """A PNG with a picture's metadata behind its header."""
    chunks = b""
    if metadata.cicp:
        primaries, transfer, full = metadata.cicp
        chunks += chunk(b"cICP", bytes([primaries, transfer, 0, full]))
    if metadata.icc:
        chunks += chunk(b"iCCP", b"ICC\0\0" + zlib.compress(metadata.icc))
    if metadata.exif:
        chunks += chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    if metadata.xmp:
        chunks += chunk(b"iTXt", _XMP.encode() + b"\0\0\0\0\0" + metadata.xmp)
    texts = list(metadata.texts)
    if metadata.software:
        texts.append(("Software", metadata.software))
    if metadata.comment and _COMMENT not in dict(texts):
        texts.append((_COMMENT, comment_text(metadata.comment)))
    for key, text in texts:
        chunks += _text(key, text)
    if metadata.dpi:
        metres = (round(value / 0.0254) for value in metadata.dpi)
        chunks += chunk(b"pHYs", struct.pack(">IIB", *metres, 1))
    return png[:_HEADER_END] + chunks + png[_HEADER_END:]


def comment_text(comment: bytes) -> str:
    """A comment of a JPEG or GIF, whose encoding nobody says, as text."""
    try:
        return comment.decode("utf-8")
    except UnicodeDecodeError:
        return comment.decode("latin-1")


def chunk(kind: bytes, data: bytes) -> bytes:
    """Length, name, content and checksum, as PNG wants them."""
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _text(key: str, text: str) -> bytes:
    """A chunk of text: tEXt where Latin-1 has all its letters, else iTXt; long ones deflated."""
    name = key.encode("latin-1", "replace") + b"\0"
    try:
        plain = text.encode("latin-1")
    except UnicodeEncodeError:
        coded = text.encode("utf-8", "replace")
        packed = len(coded) > 1024
        data = zlib.compress(coded) if packed else coded
        return chunk(b"iTXt", name + bytes([packed, 0, 0, 0]) + data)
    if len(plain) > 1024:
        return chunk(b"zTXt", name + b"\0" + zlib.compress(plain))
    return chunk(b"tEXt", name + plain)
