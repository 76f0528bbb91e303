"""What of a picture's metadata a format can hold, and what it cannot."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from PIL import Image

from diffir_cli.errors import InputError
from diffir_cli.imaging.colours import describe_cicp, profile_for
from diffir_cli.imaging.formats import Format
from diffir_cli.imaging.jpeg import LONGEST_SEGMENT
from diffir_cli.imaging.metadata import Metadata, exif_bytes, is_srgb
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.pixel_tags import drop_map
from diffir_cli.imaging.xmp import without_extension

LEVELS = "its levels finer than those of the result"
"""A name of what no option gives up, since it is no metadata."""

_log = logging.getLogger(__name__)


def check_notes(
    path: Path, picture: Picture, format_: Format, only_copy: bool = False, stripped: bool = False
) -> None:
    """Name what of a file will not be in its result, in one warning.

    Args:
        path: The file.
        picture: What was read from it.
        format_: Of the result.
        only_copy: Whether the result takes the place of the file.
        stripped: Whether nothing but colours is wanted, so that only their loss matters.

    Raises:
        InputError: when something of the only copy would be lost.
    """
    _, lost = fit_metadata(picture.stripped() if stripped else picture, format_)
    if only_copy:
        # Of these there is a warning already where a copy stays.
        check_only_copy(path, lost + (LEVELS,) * picture.reduced, stripped)
    elif lost:
        _log.warning("%s: the result does not have %s", path, " and ".join(lost))


def check_only_copy(path: Path, lost: tuple[str, ...], stripped: bool) -> None:
    """Refuse to replace a file by a result that does not have all of it.

    Raises:
        InputError: when something would be lost that nobody gave up.
    """
    lost = tuple(name for name in lost if name == LEVELS or not stripped)
    if not lost:
        return
    way_out = "" if LEVELS in lost else ": add --strip-metadata to replace it nevertheless"
    raise InputError(
        f"{path} would lose {' and '.join(lost)}{way_out}", "write the result elsewhere with -o"
    )


def stays_grey(picture: Picture, format_: Format) -> bool:
    """Whether a file of the format has one channel of colour for the picture."""
    # Grey with alpha in 16 bits is more than most programs read of a TIFF.
    beyond = format_.name == "TIFF" and picture.deep and picture.alpha is not None
    return picture.grey and format_.grey and not beyond


def fit_metadata(picture: Picture, format_: Format) -> tuple[Metadata, tuple[str, ...]]:
    """Metadata of a picture as a file of a format holds it, and what is lost, in words."""
    lost = list(picture.metadata.lost)
    fitted = _colours(picture.metadata, format_, stays_grey(picture, format_), lost)
    fitted = _xmp(fitted, format_, lost)
    fitted = _notes(fitted, format_, lost)
    return replace(fitted, lost=()), tuple(dict.fromkeys(lost))


def _colours(metadata: Metadata, format_: Format, grey: bool, lost: list[str]) -> Metadata:
    icc, cicp = metadata.icc, metadata.cicp
    if icc:
        icc = profile_for(icc, grey)
        if icc is None:
            lost.append("its colour profile, which does not fit the channels of the result")
    if icc and not format_.any_profile and is_srgb(icc):
        icc = None
    if cicp and format_.name not in ("PNG", "AVIF", "HEIF"):
        lost.append(describe_cicp(cicp))
        cicp = None
    return replace(metadata, icc=icc, cicp=cicp)


def _xmp(metadata: Metadata, format_: Format, lost: list[str]) -> Metadata:
    packet, name = metadata.xmp, format_.name
    if name == "BMP" and packet:
        lost.append("XMP")
        packet = None
    if name == "JPEG" and metadata.extended_xmp:
        return metadata
    if metadata.extended_xmp:
        lost.append("the part of its XMP that stands in further segments")
    if packet:
        packet = without_extension(packet)
        if packet is None:
            lost.append("XMP")
    return replace(metadata, xmp=packet, extended_xmp=())


def _notes(metadata: Metadata, format_: Format, lost: list[str]) -> Metadata:
    name, exif = format_.name, metadata.exif
    if exif and name == "BMP":
        lost.append("EXIF")
        exif = None
    if exif and name != "TIFF":
        tags = Image.Exif()
        tags.load(exif)
        if drop_map(tags):
            lost.append("the place on the map (GeoTIFF)")
            exif = exif_bytes(tags) if len(tags) else None
    comment, photoshop, texts = metadata.comment, metadata.photoshop, metadata.texts
    if name == "JPEG" and comment is None:
        comment = next((text.encode() for key, text in texts if key == "Comment"), None)
        texts = tuple(pair for pair in texts if pair[0] != "Comment")
    if comment and (name not in ("JPEG", "PNG") or len(comment) > LONGEST_SEGMENT):
        lost.append("the comment")
        comment = None
    if photoshop and (
        name not in ("JPEG", "TIFF") or (name == "JPEG" and len(photoshop) > LONGEST_SEGMENT - 14)
    ):
        lost.append("the caption (IPTC)")
        photoshop = None
    if texts and name != "PNG":
        lost.append("the text " + ", ".join(repr(key) for key, _ in texts))
        texts = ()
    return replace(metadata, exif=exif, comment=comment, photoshop=photoshop, texts=texts)
