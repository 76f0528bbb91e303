"""XMP: what it says of things beside the picture, which a result does not have."""

from __future__ import annotations

import re

_GAIN_MAP = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"http://ns.apple.com/HDRGainMap/1.0/")
_CONTAINER = (
    b"http://ns.google.com/photos/1.0/container/",
    b"http://ns.google.com/photos/1.0/container/item/",
)
_EXTENDED = b"http://ns.adobe.com/xmp/note/"
_VIDEO = re.compile(rb"\s[\w.-]+:(?:MotionPhoto|MicroVideo)\w*=(\"[^\"]*\"|'[^']*')")
_GONE = (b"HasExtendedXMP", b"hdr-gain-map", b"HDRGainMap", b"photos/1.0/container")


def has_gain_map(packet: bytes) -> bool:
    """Whether a packet speaks of a gain map."""
    return any(name in packet for name in _GAIN_MAP) or b'Semantic="GainMap"' in packet


def has_video(packet: bytes) -> bool:
    """Whether a packet speaks of a video behind the picture."""
    return _VIDEO.search(packet) is not None or b'Semantic="MotionPhoto"' in packet


def without_extension(packet: bytes) -> bytes | None:
    """A packet that does not go on in other segments of a JPEG; None where it cannot be made."""
    if b"HasExtendedXMP" not in packet:
        return packet
    return _checked(_without(packet, _EXTENDED), (b"HasExtendedXMP",))


def without_further_pictures(packet: bytes) -> bytes | None:
    """A packet that speaks of no further pictures and videos; None where that cannot be done."""
    for name in (*_GAIN_MAP, *_CONTAINER):
        packet = _without(packet, name)
    return _checked(_VIDEO.sub(b"", packet), _GONE[1:])


def _checked(packet: bytes, gone: tuple[bytes, ...]) -> bytes | None:
    return None if any(word in packet for word in gone) else packet


def _without(packet: bytes, namespace: bytes) -> bytes:
    """A packet without the elements, attributes and declarations of a namespace."""
    declared = rb"\sxmlns:([\w.-]+)=[\"']" + re.escape(namespace) + rb"[\"']"
    for prefix in set(re.findall(declared, packet)):
        name = re.escape(prefix) + rb":[\w.-]+"
        packet = re.sub(
            rb"<(" + name + rb")\b(?:[^>]*/>|[^>]*>.*?</\1\s*>)", b"", packet, flags=re.DOTALL
        )
        packet = re.sub(rb"\s" + name + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')", b"", packet)
    return re.sub(declared, b"", packet)
