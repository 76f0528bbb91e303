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
_MOST_PREFIXES = 16
"""For one namespace; packets with more are not taken apart."""
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


def _without_elements(packet: bytes, name: bytes) -> bytes:
    """A packet without the elements of names of a pattern; those that do not end stay."""
    kept, end, depth, start, opened = [], 0, 0, 0, b""
    for tag in re.finditer(rb"<(/?)(" + name + rb")\b[^<>]*>", packet):
        closes, alone = bool(tag[1]), tag[0].endswith(b"/>")
        if not depth:
            if closes:
                continue
            start, opened = tag.start(), tag[2]
            depth = 0 if alone else 1
        elif tag[2] == opened and not alone:
            depth += -1 if closes else 1
        if not depth:
            kept.append(packet[end:start])
            end = tag.end()
    return b"".join([*kept, packet[end:]])


def _without(packet: bytes, namespace: bytes) -> bytes:
    """A packet without the elements, attributes and declarations of a namespace."""
    # Time grows with packet and prefixes; few packets are longer than a hundred kilobytes.
    declared = rb"\sxmlns:([\w.-]+)=[\"']" + re.escape(namespace) + rb"[\"']"
    prefixes = set(re.findall(declared, packet))
    if len(prefixes) > _MOST_PREFIXES:
        return packet
    for prefix in prefixes:
        name = re.escape(prefix) + rb":[\w.-]+"
        packet = _without_elements(packet, name)
        packet = re.sub(rb"\s" + name + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')", b"", packet)
    return re.sub(declared, b"", packet)
