"""What is in a JPEG beside its picture: further pictures, captions, XMP in several segments."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from PIL import Image

from diffir_cli.imaging.metadata import Metadata
from diffir_cli.imaging.xmp import has_gain_map, has_video

GAIN_MAP, SECOND_VIEW, FURTHER_PICTURE, VIDEO, CREDENTIALS = (
    "the gain map (HDR)",
    "the second view",
    "a further picture",
    "the video behind the photo",
    "the content credentials (C2PA)",
)
"""Names of what a result does not have."""

LONGEST_SEGMENT = 65_533
"""Bytes that a segment can hold."""

_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
_CAPTIONS = frozenset({0x0404, 0x040A, 0x040B, 0x0425})
"""Resources of Photoshop that are no layout or preview: IPTC and its digest, copyright, URL."""

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_UNDEFINED, _DISPARITY = "Undefined", "Disparity"


def with_jpeg_notes(metadata: Metadata, image: Image.Image) -> Metadata:
    """Metadata with what stands in the segments of a JPEG."""
    segments: Sequence[tuple[str, bytes]] = getattr(image, "applist", ())
    extended = [data for name, data in segments if name == "APP1" and data.startswith(_EXTENSION)]
    return replace(
        metadata,
        extended_xmp=tuple(extended),
        photoshop=captions_in(
            b"".join(
                data.removeprefix(_PHOTOSHOP)
                for name, data in segments
                if name == "APP13" and data.startswith(_PHOTOSHOP)
            )
        ),
    )


def beside_jpeg(image: Image.Image, data: bytes | None = None) -> tuple[str, ...]:
    """What else is in a JPEG and has no place in a result.

    Args:
        image: As Pillow opened it.
        data: The whole file; None where only the header is at hand.
    """
    segments: Sequence[tuple[str, bytes]] = getattr(image, "applist", ())
    packet = b"".join(content for name, content in segments if name == "APP1")
    found: list[str] = []
    kinds = _further_kinds(image)
    if has_gain_map(packet) or any(content.startswith(_ISO_GAIN_MAP) for _, content in segments):
        found.append(GAIN_MAP)
        if _UNDEFINED in kinds:
            kinds.remove(_UNDEFINED)
    for kind in kinds:
        if "Thumbnail" not in kind:
            found.append(SECOND_VIEW if _DISPARITY in kind else FURTHER_PICTURE)
    behind = b"" if data is None else _behind(data)
    if has_video(packet) or b"ftyp" in behind:
        found.append(VIDEO)
    if data is not None and not kinds and not found and behind.strip(b"\0\xff \r\n"):
        picture = b"\xff\xd8\xff" in behind
        found.append(FURTHER_PICTURE if picture else f"{len(behind):,} bytes behind the picture")
    if any(name == "APP11" and content[:2] == b"JP" for name, content in segments):
        found.append(CREDENTIALS)
    return tuple(dict.fromkeys(found))


def captions_in(resources: object) -> bytes | None:
    """What of Photoshop's resources says something about the picture; None where nothing does."""
    return (b"".join(_kept(resources)) or None) if isinstance(resources, bytes) else None


def segments_for(metadata: Metadata) -> bytes:
    """Segments for captions and for XMP that goes on, as a JPEG holds them."""
    contents = [(0xE1, data) for data in metadata.extended_xmp]
    if metadata.photoshop:
        contents.append((0xED, _PHOTOSHOP + metadata.photoshop))
    return b"".join(
        struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data for kind, data in contents
    )


def resource_of(iptc: bytes) -> bytes:
    """IPTC as a resource of Photoshop."""
    return b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)


def _further_kinds(image: Image.Image) -> list[str]:
    """Kinds of the pictures behind the first one, as the index of an MPO calls them."""
    index: Any = None
    # A damaged index makes Pillow raise almost anything.
    with suppress(Exception):
        index = getattr(image, "_getmp", lambda: None)()
    return [str(entry["Attribute"]["MPType"]) for entry in (index or {}).get(0xB002, ())[1:]]


def _behind(data: bytes) -> bytes:
    """What follows the end of the first picture."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return b""
        kind = data[place + 1]
        if kind == 0xFF:
            place += 1
            continue
        if kind == 0xD9:
            return data[place + 2 :]
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if kind == 0xDA:
            following = _MARKER.search(data, place)
            if following is None:
                return b""
            place = following.start()
    return b""


def _kept(resources: bytes) -> Iterator[bytes]:
    place = 0
    while resources[place : place + 4] == b"8BIM" and place + 12 <= len(resources):
        kind = int.from_bytes(resources[place + 4 : place + 6], "big")
        name = 1 + resources[place + 6]
        start = place + 6 + name + name % 2
        size = int.from_bytes(resources[start : start + 4], "big")
        end = start + 4 + size + size % 2
        # The last one may lack its filler.
        if kind in _CAPTIONS and start + 4 + size <= len(resources):
            yield resources[place:end].ljust(end - place, b"\0")
        place = end
