"""Colour profiles (ICC, version 4) made from what says the same in another way, or for grey."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Primaries = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue in CIE 1931."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D65 = (0.3127, 0.3290)
SRGB: Primaries = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)

PRIMARIES: dict[int, Primaries] = {
    1: SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""By their number in ITU-T H.273."""

_BT709 = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
CURVES: dict[int, tuple[float, ...]] = {
    1: _BT709,
    4: (2.2,),
    5: (2.8,),
    6: _BT709,
    8: (1.0,),
    13: _SRGB_CURVE,
    14: _BT709,
    15: _BT709,
}
"""Parameters of transfer curves by their number in H.273; brightness beyond white has none."""


def make_profile(primaries: Primaries, curve: tuple[float, ...], grey: bool) -> bytes | None:
    """A profile for colours, or for the grey of them.

    Args:
        primaries: Of the colours.
        curve: A gamma, or the five parameters of a curve that begins with a line.
        grey: Whether it is for one channel.

    Returns:
        None where the primaries are none.
    """
    return _profile(None if grey else primaries, _parametric(curve))


def grey_to_rgb(icc: bytes) -> bytes | None:
    """The profile of three equal channels that look as grey with that profile does; None for none.

    The primaries do not matter as long as the channels are equal.
    """
    curve = _tag(icc, b"kTRC")
    if curve is None or icc[20:24] != b"XYZ ":
        return None
    return _profile(SRGB, curve)


def rgb_to_grey(icc: bytes) -> bytes | None:
    """The profile for one of three equal channels; None where their curves differ."""
    curves = {_tag(icc, name) for name in (b"rTRC", b"gTRC", b"bTRC")}
    curve = curves.pop()
    return None if curves or curve is None or icc[20:24] != b"XYZ " else _profile(None, curve)


def _tag(icc: bytes, name: bytes) -> bytes | None:
    try:
        (count,) = struct.unpack_from(">I", icc, 128)
        for place in range(132, 132 + 12 * min(count, 100), 12):
            found, start, size = struct.unpack_from(">4sII", icc, place)
            if found == name and start + size <= len(icc):
                return icc[start : start + size]
    except struct.error:
        pass
    return None


def _profile(primaries: Primaries | None, curve: bytes) -> bytes | None:
    tags = [
        (b"desc", _text("made by diffir from what the image file says")),
        (b"cprt", _text("No copyright")),
        (b"wtpt", _xyz(_D50)),
    ]
    if primaries is None:
        tags += [(b"kTRC", curve)]
    else:
        found = _colourants(primaries)
        if found is None:
            return None
        columns, adaptation = found
        tags += [(b"chad", _fixed(b"sf32", adaptation.ravel()))]
        for place, name in enumerate((b"r", b"g", b"b")):
            tags += [(name + b"XYZ", _xyz(columns[:, place])), (name + b"TRC", curve)]
    directory, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags:
        directory += struct.pack(">4sII", tag, start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    space = b"GRAY" if primaries is None else b"RGB "
    header = struct.pack(
        ">I4sI4s4s4s12s4sIIIIQI3i4s16s28s",
        start + len(data),
        b"\0\0\0\0",
        0x04300000,
        b"mntr",
        space,
        b"XYZ ",
        # A date is wanted; the result of a run depends on no clock.
        struct.pack(">6H", 2000, 1, 1, 0, 0, 0),
        b"acsp",
        *(0, 0, 0, 0, 0, 0),
        *(round(value * 65_536) for value in _D50),
        bytes(4),
        bytes(16),
        bytes(28),
    )
    return header + directory + data


def _colourants(primaries: Primaries) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """XYZ of red, green and blue as columns under D50, and the adaptation to it."""
    points = np.array(primaries, float).reshape(4, 2)
    if (points[:, 1] <= 0).any():
        return None
    white, *corners = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in points)
    columns = np.stack(corners, axis=1)
    if abs(np.linalg.det(columns)) < 1e-6:
        return None
    columns = columns * np.linalg.solve(columns, white)
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD
    return adaptation @ columns, adaptation


def _parametric(curve: tuple[float, ...]) -> bytes:
    kind = 0 if len(curve) == 1 else 3
    return b"para" + struct.pack(">IHH", 0, kind, 0) + _numbers(np.array(curve))


def _fixed(kind: bytes, values: NDArray[np.float64]) -> bytes:
    return kind + bytes(4) + _numbers(values)


def _numbers(values: NDArray[np.float64]) -> bytes:
    return b"".join(struct.pack(">i", round(float(value) * 65_536)) for value in values)


def _xyz(values: NDArray[np.float64]) -> bytes:
    return _fixed(b"XYZ ", values)


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(data), 28) + data
