"""What a JPEG XL file says that its decoder does not pass on: depth, animation, XMP, gain map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diffir_cli.imaging.jpeg import CREDENTIALS, GAIN_MAP

_SIGNATURE = b"\xff\x0a"


@dataclass(frozen=True)
class JxlNotes:
    """What was found."""

    bits: int = 8
    """Of a channel."""
    xmp: bytes | None = None
    """A packet of XMP."""
    lost: tuple[str, ...] = ()
    """What has no place in a result."""


def read_jxl_notes(data: bytes) -> JxlNotes:
    """Look through a JPEG XL file, or the start of one."""
    xmp, lost, stream = None, [], data
    for kind, content in _boxes(data):
        if kind in (b"jxlc", b"jxlp") and stream is data:
            stream = content if kind == b"jxlc" else content[4:]
        if kind == b"xml ":
            xmp = content
        names = {b"jhgm": GAIN_MAP, b"jumb": CREDENTIALS, b"brob": "XMP (compressed by Brotli)"}
        if kind in names and (kind != b"brob" or content[:4] == b"xml "):
            lost.append(names[kind])
    bits, animated = _header(stream)
    if animated:
        lost.append("all frames but the first")
    return JxlNotes(bits, xmp, tuple(lost))


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0 if data[4:8] == b"JXL " else len(data)
    while place + 8 <= len(data):
        size, kind, head = (
            int.from_bytes(data[place : place + 4], "big"),
            data[place + 4 : place + 8],
            8,
        )
        if size == 1:
            size, head = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        size = size or len(data) - place
        if size < head:
            return
        yield kind, data[place + head : place + size]
        place += size


class _Bits:
    """A reader of bits, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.place = int.from_bytes(data, "little"), 0

    def read(self, count: int) -> int:
        found = (self.value >> self.place) & ((1 << count) - 1)
        self.place += count
        return found

    def choose(self, *choices: tuple[int, int]) -> int:
        """Of four kinds of a number, (what is added, bits), the one that two bits name."""
        added, bits = choices[self.read(2)]
        return added + self.read(bits)


def _header(stream: bytes) -> tuple[int, bool]:
    """Bits of a channel, and whether there are several frames."""
    if not stream.startswith(_SIGNATURE):
        return 8, False
    bits = _Bits(stream[2:64])
    _skip_size(bits)
    if bits.read(1):
        return 8, False
    if bits.read(1):
        bits.read(3)
        if bits.read(1):
            _skip_size(bits)
        preview, animated = bits.read(1), bits.read(1)
        if preview or animated:
            return 8, bool(animated)
    if bits.read(1):
        return bits.choose((32, 0), (16, 0), (24, 0), (1, 6)), False
    return bits.choose((8, 0), (10, 0), (12, 0), (1, 6)), False


def _skip_size(bits: _Bits) -> None:
    sides = ((1, 9), (1, 13), (1, 18), (1, 30))
    small = bits.read(1)
    for side in range(2):
        # The width may be a ratio of the height.
        if side == 1 and bits.read(3):
            return
        if small:
            bits.read(5)
        else:
            bits.choose(*sides)
