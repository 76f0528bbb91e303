"""What a file says about its picture: colour profile, EXIF, XMP, and where a result comes from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO

from PIL import ExifTags, Image, ImageCms

_SIZES = (
    (None, ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength),
    (ExifTags.IFD.Exif, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight),
)
"""Directory and tags that hold the size of the picture."""

_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop)
"""Directories of EXIF."""

_OF_THE_FILE = frozenset(
    {254, 255, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 317, 320, 322, 323}
    | {324, 325, 330, 338, 339, 347, 512, 513, 514, 529, 530, 531, 532, 700, 34675}
)
"""Tags by which a TIFF says how its own pixels lie in it, which no other file may repeat; and those
for profile and XMP, which are given back by themselves."""


@dataclass(frozen=True)
class Metadata:
    """What is given back with a picture.

    Attributes:
        icc: The colour profile.
        exif: A block of EXIF, upright, without thumbnail.
        xmp: A packet of XMP.
        software: What made the file, for programs that show it.
        dpi: Pixels for an inch on paper, across and down.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    software: str = ""
    dpi: tuple[float, float] | None = None

    def of_result(self, size: tuple[int, int], software: str) -> Metadata:
        """The same for a result of that size in pixels, with what made it."""
        return replace(self, exif=_for_result(self.exif, size, software), software=software)

    def stripped(self) -> Metadata:
        """The profile alone: without it the colours would be others."""
        return Metadata(icc=self.icc)


def read_metadata(image: Image.Image, upright: Image.Image, icc: bytes | None) -> Metadata:
    """What a picture that has been turned upright says; broken parts are left out.

    Args:
        image: As its file gives it.
        upright: As `ImageOps.exif_transpose` gives it, which resets the orientation.
        icc: Its profile, where that still fits its colours.
    """
    xmp = upright.info.get("xmp", upright.info.get("XML:com.adobe.xmp"))
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8")
    xmp = xmp if isinstance(xmp, bytes) and xmp else None
    return Metadata(icc, _exif(image, upright), xmp, dpi=_dpi(image))


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    found = image.info.get("dpi")
    try:
        across, down = (float(value) for value in found or ())
    except (TypeError, ValueError):
        return None
    usable = 1 <= across <= 65_535 and 1 <= down <= 65_535
    return (across, down) if usable else None


def read_directories(image: Image.Image) -> None:
    """Have Pillow read all directories of a TIFF's EXIF, which it cannot once it has decoded."""
    if image.format != "TIFF":
        return
    # Cameras and editors write every kind of broken EXIF.
    with suppress(Exception):
        exif = image.getexif()
        for directory in _DIRECTORIES:
            exif.get_ifd(directory)


def _exif(image: Image.Image, upright: Image.Image) -> bytes | None:
    try:
        # A copy of a TIFF has lost its tags.
        exif = upright.getexif() or image.getexif()
        if ExifTags.Base.Orientation in exif:
            exif[ExifTags.Base.Orientation] = 1
        for tag in _OF_THE_FILE & set(exif):
            del exif[tag]
        return _to_bytes(exif) if len(exif) else None
    # Cameras and editors write every kind of broken EXIF.
    except Exception:
        return None


def _for_result(block: bytes | None, size: tuple[int, int], software: str) -> bytes | None:
    if block is None:
        return None
    exif = Image.Exif()
    exif.load(block)
    for directory, wide, high in _SIZES:
        tags = exif if directory is None else exif.get_ifd(directory)
        for tag, side in ((wide, size[0]), (high, size[1])):
            if tag in tags:
                tags[tag] = side
    if software:
        exif[ExifTags.Base.Software] = software
    return _to_bytes(exif)


def _to_bytes(exif: Image.Exif) -> bytes:
    """As bytes, with the header that Pillow's writers expect and without a thumbnail."""
    data = exif.tobytes()
    return data if data.startswith(b"Exif\x00\x00") else b"Exif\x00\x00" + data


def is_srgb(icc: bytes) -> bool:
    """Whether a colour profile calls itself sRGB."""
    try:
        return "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(icc)))
    except (OSError, ImageCms.PyCMSError):
        return False


def software_exif(software: str) -> bytes:
    """A block of EXIF that says nothing but what made the file."""
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = software
    return _to_bytes(exif)
