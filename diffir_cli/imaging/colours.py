"""What a file says its colours are besides a profile: as a profile, or as the numbers of H.273."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from diffir_cli.imaging.profiles import (
    CURVES,
    PRIMARIES,
    SRGB,
    Primaries,
    grey_to_rgb,
    make_profile,
    rgb_to_grey,
)

Cicp = tuple[int, int, bool]
"""Primaries, transfer, and whether levels use the full range."""

_UNSPECIFIED = 2
_SRGB_PRIMARIES, _SRGB_TRANSFER = 1, 13
_SRGB_CURVE = CURVES[_SRGB_TRANSFER]
_TRANSFERS = {16: "PQ", 18: "HLG"}
_WIDE = {9: "BT.2020", 11: "P3", 12: "Display P3"}


def colours_of_png(chunks: Mapping[bytes, bytes], grey: bool) -> tuple[bytes | None, Cicp | None]:
    """A profile or numbers for a PNG that has no profile; neither where it is sRGB.

    Args:
        chunks: Contents of its chunks about colours.
        grey: Whether the picture has one channel.
    """
    coded = chunks.get(b"cICP", b"")
    if len(coded) == 4:
        return colours_of_cicp(coded[0], coded[1], coded[3] == 1, grey)
    if b"sRGB" in chunks:
        return None, None
    gamma, corners = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    curve, primaries = _SRGB_CURVE, SRGB
    if len(gamma) == 4 and (counts := int.from_bytes(gamma, "big")) > 0:
        # Programs that mean sRGB write 1/2.2, each rounded in its own way.
        curve = _SRGB_CURVE if abs(counts - 45_455) < 100 else (100_000 / counts,)
    if len(corners) == 32:
        values = [value / 100_000 for value in struct.unpack(">8I", corners)]
        primaries = _near_srgb(values)
    usable = primaries != SRGB and not grey
    if (curve == _SRGB_CURVE and not usable) or not 0.01 < curve[0] < 100:
        return None, None
    return make_profile(primaries, curve, grey), None


def _near_srgb(values: list[float]) -> Primaries:
    near = all(abs(value - exact) < 0.002 for value, exact in zip(values, SRGB, strict=True))
    return SRGB if near else (*values,)  # type: ignore[return-value]


def colours_of_nclx(start: bytes, grey: bool) -> tuple[bytes | None, Cicp | None]:
    """The same for an AVIF or HEIF, from its first bytes."""
    place = start.find(b"colrnclx")
    if place < 0 or len(start) < place + 15:
        return None, None
    primaries, transfer = struct.unpack_from(">HH", start, place + 8)
    # Levels are always decoded to the full range.
    return colours_of_cicp(primaries, transfer, True, grey)


def colours_of_cicp(
    primaries: int, transfer: int, full: bool, grey: bool
) -> tuple[bytes | None, Cicp | None]:
    """A profile for numbers of H.273 where one can say the same; else the numbers."""
    known = _SRGB_PRIMARIES if primaries == _UNSPECIFIED else primaries
    curve = _SRGB_TRANSFER if transfer == _UNSPECIFIED else transfer
    if full and (known, curve) == (_SRGB_PRIMARIES, _SRGB_TRANSFER):
        return None, None
    if full and known in PRIMARIES and curve in CURVES:
        return make_profile(PRIMARIES[known], CURVES[curve], grey), None
    return None, (primaries, transfer, full)


def describe_cicp(cicp: Cicp) -> str:
    """Numbers of H.273 in words."""
    primaries, transfer, full = cicp
    first = f"{_WIDE.get(primaries, primaries)} primaries"
    second = f"{_TRANSFERS.get(transfer, transfer)} transfer"
    return f"its colours ({first}, {second}{'' if full else ', limited range'})"


def profile_for(icc: bytes, grey: bool) -> bytes | None:
    """A profile for one channel or for three that says what `icc` says; None where there is none.

    Args:
        icc: Of a picture with grey or colours.
        grey: Whether the file has one channel of colour.
    """
    space = icc[16:20]
    if space == (b"GRAY" if grey else b"RGB "):
        return icc
    if space == b"GRAY":
        return grey_to_rgb(icc)
    return rgb_to_grey(icc) if space == b"RGB " else None


def set_nclx(data: bytes, cicp: Cicp) -> bytes:
    """An AVIF that says its primaries and transfer; what it says of its planes stays."""
    coded = struct.pack(">HH", *cicp[:2])
    place = data.find(b"colrnclx")
    while place >= 0:
        data = data[: place + 8] + coded + data[place + 12 :]
        place = data.find(b"colrnclx", place + 8)
    return data
