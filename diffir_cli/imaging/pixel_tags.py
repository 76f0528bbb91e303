"""Notes that count in pixels of their picture, carried over to a result of another size."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from PIL import ExifTags, Image

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, GEO_KEYS = 33550, 33922, 34264, 34735
GEO_TAGS = frozenset({PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, GEO_KEYS, 34736, 34737})
"""Where a GeoTIFF lies on the map."""

_NOT_CARRIED_OVER = frozenset({33920, 50844})
"""Georeferences of old or satellite pictures that cannot be scaled: Intergraph matrix, RPC."""

_RASTER_TYPE, _PIXEL_IS_POINT = 1025, 2

_SIZES = (
    (None, ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength),
    (ExifTags.IFD.Exif, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight),
)
"""Directory and tags that hold the size of the picture."""

_AREA, _LOCATION = 0x9214, 0xA214
_FOCAL_ACROSS, _FOCAL_DOWN = 0xA20E, 0xA20F
"""Pixels for a unit of length on the sensor."""

_XMP_SIZES = (
    ("tiff:ImageWidth", 0),
    ("tiff:ImageLength", 1),
    ("exif:PixelXDimension", 0),
    ("exif:PixelYDimension", 1),
)
_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)[2-8]""")
_RESOLUTION = re.compile(rb"tiff:([XY])Resolution\b")
_PANORAMA = re.compile(rb"""(GPano:\w*(Width|Height|Left|Top)\w*Pixels(?:=["']|>))(\d+)""")


def turn_exif(exif: Image.Exif, orientation: int) -> None:
    """Leave out places in a picture that was turned upright: they counted from another corner."""
    if orientation == 1:
        return
    drop_map(exif)
    inner = exif.get_ifd(ExifTags.IFD.Exif) if ExifTags.IFD.Exif in exif else {}
    for tag in (_AREA, _LOCATION):
        inner.pop(tag, None)
    if orientation >= 5 and _FOCAL_ACROSS in inner and _FOCAL_DOWN in inner:
        inner[_FOCAL_ACROSS], inner[_FOCAL_DOWN] = inner[_FOCAL_DOWN], inner[_FOCAL_ACROSS]
    across, down = ExifTags.Base.XResolution, ExifTags.Base.YResolution
    if orientation >= 5 and across in exif and down in exif:
        exif[across], exif[down] = exif[down], exif[across]


def drop_map(exif: Image.Exif) -> bool:
    """Leave out where a picture lies on the map; whether it said so."""
    found = GEO_TAGS & set(exif)
    for tag in found:
        del exif[tag]
    return bool(found)


def scale_exif(exif: Image.Exif, old: tuple[int, int], new: tuple[int, int]) -> None:
    """Change what counts in pixels for another size, (width, height).

    Args:
        exif: Of a picture of the old size; changed.
        old: (0, 0) where it is not known: then such notes are left out.
        new: Of the result.
    """
    for directory, wide, high in _SIZES:
        if directory is not None and directory not in exif:
            continue
        tags = exif if directory is None else exif.get_ifd(directory)
        for tag, side in ((wide, new[0]), (high, new[1])):
            if tag in tags:
                tags[tag] = side
    for number in _NOT_CARRIED_OVER & set(exif):
        del exif[number]
    if old == new:
        return
    factors = (new[0] / old[0], new[1] / old[1]) if all(old) else None
    if ExifTags.IFD.Exif in exif:
        _scale_places(exif.get_ifd(ExifTags.IFD.Exif), factors)
    _scale_map(exif, factors)


def turn_xmp(packet: bytes, orientation: int) -> bytes:
    """A packet of XMP for a picture that was turned upright from an orientation, 1 to 8."""
    packet = _ORIENTATION.sub(rb"\g<1>1", packet)
    if orientation < 5:
        return packet
    swapped = {b"X": b"Y", b"Y": b"X"}
    return _RESOLUTION.sub(lambda match: b"tiff:" + swapped[match[1]] + b"Resolution", packet)


def scale_xmp(packet: bytes, old: tuple[int, int], new: tuple[int, int]) -> bytes:
    """A packet of XMP for another size; its length may change."""
    for name, side in _XMP_SIZES:
        pattern = rb"(" + name.encode("ascii") + rb"""(?:=["']|>))\d+"""
        packet = re.sub(pattern, rb"\g<1>%d" % new[side], packet)

    def scaled(match: re.Match[bytes]) -> bytes:
        side = 0 if match[2] in (b"Width", b"Left") else 1
        return match[1] + str(round(int(match[3]) * new[side] / old[side])).encode("ascii")

    return _PANORAMA.sub(scaled, packet) if all(old) else packet


def _scale_places(inner: dict[int, Any], factors: tuple[float, float] | None) -> None:
    """Of EXIF: where the subject is, and pixels for a length on the sensor."""
    for tag in (_AREA, _LOCATION):
        values = inner.get(tag)
        if values is None:
            continue
        if factors is None or not isinstance(values, tuple) or not 2 <= len(values) <= 4:
            del inner[tag]
            continue
        # A circle has a centre and a diameter, a rectangle two sides.
        both = (*factors, factors[0], factors[1])
        scaled = tuple(round(value * factor) for value, factor in zip(values, both, strict=False))
        if max(scaled) > 65_535:
            del inner[tag]
        else:
            inner[tag] = scaled
    for tag, side in ((_FOCAL_ACROSS, 0), (_FOCAL_DOWN, 1)):
        if tag in inner:
            if factors is None:
                del inner[tag]
            else:
                inner[tag] = float(inner[tag]) * factors[side]


def _scale_map(exif: Image.Exif, factors: tuple[float, float] | None) -> None:
    """Of a GeoTIFF: what leads from pixels to the ground."""
    if factors is None:
        drop_map(exif)
        return
    # Where pixels are points, (0, 0) is the middle of the first one and not its corner.
    middle = 0.5 if _pixel_is_point(exif) else 0.0
    if PIXEL_SCALE in exif:
        across, down, *others = exif[PIXEL_SCALE]
        exif[PIXEL_SCALE] = (across / factors[0], down / factors[1], *map(float, others))
    if TIE_POINTS in exif:
        points = np.array(exif[TIE_POINTS], float).reshape(-1, 6)
        points[:, :2] = (points[:, :2] + middle) * factors - middle
        exif[TIE_POINTS] = tuple(points.ravel().tolist())
    if TRANSFORMATION in exif:
        matrix = np.array(exif[TRANSFORMATION], float).reshape(4, 4)
        to_old = np.diag([1 / factors[0], 1 / factors[1], 1.0, 1.0])
        to_old[:2, 3] = [middle / factor - middle for factor in factors]
        exif[TRANSFORMATION] = tuple((matrix @ to_old).ravel().tolist())


def _pixel_is_point(exif: Image.Exif) -> bool:
    keys = exif.get(GEO_KEYS, ())
    entries = [keys[start : start + 4] for start in range(4, len(keys), 4)]
    return any(entry[0] == _RASTER_TYPE and entry[-1] == _PIXEL_IS_POINT for entry in entries)
