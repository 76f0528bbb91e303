"""What a file says about its picture: colours, EXIF, XMP, captions, what made it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO

from PIL import ExifTags, Image, ImageCms

from diffir_cli.imaging.pixel_tags import scale_exif, scale_xmp, turn_exif, turn_xmp

OF_THE_FILE = frozenset(
    {254, 255, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 317, 320, 322, 323}
    | {324, 325, 330, 338, 339, 340, 341, 347, 512, 513, 514, 529, 530, 531, 532, 700, 34675}
    | {33723, 34377, 37724, 50838, 50839, 51123, 33628, 33629, 33630, 33631, 34412}
)
"""Tags by which a TIFF says how its own pixels lie in it, which no other file may repeat; those of
microscopes (ImageJ, Micro-Manager, MetaMorph, Zeiss) that do so; layers; and those for profile, XMP
and captions, which are given back by themselves."""

_LAYOUT = re.compile(r"\s*(ImageJ=|SCIFIO=|\{\"shape\"|shape=\(|<\?xml|<OME)")
"""How descriptions begin that programs write for themselves: of how the old pixels lie."""


@dataclass(frozen=True)
class Metadata:
    """What is given back with a picture.

    Attributes:
        icc: The colour profile.
        exif: A block of EXIF, upright, without thumbnail.
        xmp: A packet of XMP.
        software: What made the file, for programs that show it.
        dpi: Pixels for an inch on paper, across and down.
        size: (width, height) of the picture that it is about; (0, 0) where that is unknown.
        cicp: Primaries and transfer (ITU-T H.273) that no profile can express, and whether levels
            use the full range.
        extended_xmp: Segments of a JPEG in which its XMP goes on.
        photoshop: Resources of Photoshop with captions (IPTC).
        comment: Of a JPEG or GIF.
        texts: Keywords and texts of a PNG.
        lost: What else is in the file and cannot be kept, in words.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    software: str = ""
    dpi: tuple[float, float] | None = None
    size: tuple[int, int] = (0, 0)
    cicp: tuple[int, int, bool] | None = None
    extended_xmp: tuple[bytes, ...] = ()
    photoshop: bytes | None = None
    comment: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()
    lost: tuple[str, ...] = ()

    def of_result(self, size: tuple[int, int], software: str) -> Metadata:
        """The same for a result of that size in pixels, with what made it."""
        exif, xmp = self.exif, self.xmp
        if exif is not None:
            tags = Image.Exif()
            tags.load(exif)
            scale_exif(tags, self.size, size)
            if software:
                tags[ExifTags.Base.Software] = software
            exif = exif_bytes(tags)
        if xmp is not None:
            xmp = scale_xmp(xmp, self.size, size)
        return replace(self, exif=exif, xmp=xmp, software=software, size=size)

    def stripped(self) -> Metadata:
        """What the colours mean alone: without it they would be others."""
        return Metadata(icc=self.icc, cicp=self.cicp, size=self.size)


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
    comment = image.info.get("comment")
    comment = comment if isinstance(comment, bytes) and comment else None
    orientation = _orientation(image)
    if xmp and orientation > 1:
        xmp = turn_xmp(xmp, orientation)
    dpi = _dpi(image)
    if dpi and orientation >= 5:
        dpi = dpi[1], dpi[0]
    return Metadata(icc, _exif(image, upright), xmp, dpi=dpi, size=upright.size, comment=comment)


def _orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF counts."""
    with suppress(Exception):
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        return found if found in range(1, 9) else 1
    return 1


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    found = image.info.get("dpi")
    try:
        across, down = (float(value) for value in found or ())
    except (TypeError, ValueError):
        return None
    usable = 1 <= across <= 65_535 and 1 <= down <= 65_535
    return (across, down) if usable else None


def _exif(image: Image.Image, upright: Image.Image) -> bytes | None:
    try:
        before = image.getexif()
        # A copy of a TIFF has lost its tags.
        return cleaned_exif(upright.getexif() or before, before.get(ExifTags.Base.Orientation, 1))
    # Cameras and editors write every kind of broken EXIF.
    except Exception:
        return None


def cleaned_exif(exif: Image.Exif, orientation: int) -> bytes | None:
    """EXIF for a picture that was turned upright, without what is true of the old file alone."""
    try:
        turn_exif(exif, orientation)
        if ExifTags.Base.Orientation in exif:
            exif[ExifTags.Base.Orientation] = 1
        for tag in OF_THE_FILE & set(exif):
            del exif[tag]
        if _LAYOUT.match(str(exif.get(ExifTags.Base.ImageDescription, ""))):
            del exif[ExifTags.Base.ImageDescription]
        return exif_bytes(exif) if len(exif) else None
    # Cameras and editors write every kind of broken EXIF.
    except Exception:
        return None


def exif_bytes(exif: Image.Exif) -> bytes:
    """As bytes, with the header that Pillow's writers expect and without a thumbnail."""
    data = exif.tobytes()
    return data if data.startswith(b"Exif\x00\x00") else b"Exif\x00\x00" + data


def is_srgb(icc: bytes) -> bool:
    """Whether a colour profile calls itself sRGB."""
    with suppress(OSError, ImageCms.PyCMSError):
        return "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(icc)))
    return False


def software_exif(software: str) -> bytes:
    """A block of EXIF that says nothing but what made the file."""
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = software
    return exif_bytes(exif)
