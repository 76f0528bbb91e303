"""The directories of a TIFF: its tags, whatever its byte order, classic or BigTIFF.

Pillow's reader of tags is used; its TIFF plugin, which refuses many layouts, is not.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from PIL import ExifTags, Image, TiffImagePlugin

from diffir_cli.imaging.jpeg import captions_in, resource_of
from diffir_cli.imaging.metadata import OF_THE_FILE, Metadata, cleaned_exif
from diffir_cli.imaging.pixel_tags import GEO_TAGS, turn_xmp

Tags = TiffImagePlugin.ImageFileDirectory_v2

_SUBFILE_TYPE, _REDUCED = 254, 1
_SUB_DIRECTORIES, _DNG_VERSION = 330, 50706
_XMP, _PHOTOSHOP, _IPTC, _LAYERS = 700, 34377, 33723, 37724
_CFA, _LINEAR_RAW = 32803, 34892
"""Values of PhotometricInterpretation that only camera raw files have."""

_MOST_DIRECTORIES = 10_000
_MOST_ENTRIES = 200_000
"""In all directories together; those behind are not counted as pictures."""


@dataclass(frozen=True)
class TiffDirectory:
    """What a TIFF says of its first picture, and of what else there is."""

    tags: Tags
    """Of the first picture."""
    frames: int
    """Pictures in the file, previews left out."""
    raw: bool
    """Whether it is the raw file of a camera, or its first picture is only a preview."""
    exif: Image.Exif
    """EXIF with its directories, tags of the pixels left out; not upright yet."""

    def value(self, tag: int, default: Any) -> Any:
        """A value of the first picture; of several numbers the first."""
        found = self.tags.get(tag, default)
        return found[0] if isinstance(found, tuple) and found else found

    def values(self, tag: int) -> tuple[Any, ...]:
        """All values of a tag."""
        found = self.tags.get(tag, ())
        return found if isinstance(found, tuple) else (found,)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as the pixels lie in the file."""
        width = self.value(TiffImagePlugin.IMAGEWIDTH, 0)
        return int(width), int(self.value(TiffImagePlugin.IMAGELENGTH, 0))

    @property
    def orientation(self) -> int:
        """1 to 8, as EXIF counts."""
        found = self.value(ExifTags.Base.Orientation, 1)
        return found if found in range(1, 9) else 1

    def metadata(self, spare: int = 0) -> Metadata:
        """What it says of its picture, turned upright.

        Args:
            spare: Channels of unknown meaning, which a result does not have.
        """
        xmp, icc = (self.tags.get(tag) for tag in (_XMP, TiffImagePlugin.ICCPROFILE))
        captions = captions_in(self.tags.get(_PHOTOSHOP))
        iptc = self.tags.get(_IPTC)
        if captions is None and isinstance(iptc, bytes):
            captions = resource_of(iptc)
        if isinstance(xmp, bytes) and self.orientation > 1:
            xmp = turn_xmp(xmp, self.orientation)
        width, height = self.size
        return Metadata(
            icc if isinstance(icc, bytes) and icc else None,
            cleaned_exif(self.exif, self.orientation),
            xmp if isinstance(xmp, bytes) and xmp else None,
            dpi=self._dpi(),
            size=(height, width) if self.orientation >= 5 else (width, height),
            photoshop=captions,
            lost=self.lost(spare),
        )

    def lost(self, spare: int) -> tuple[str, ...]:
        """What else is in the file and has no place in a result."""
        channels = "a channel" if spare == 1 else f"{spare} channels"
        names = {
            f"{channels} of unknown meaning": spare > 0,
            "the layers (Photoshop)": _LAYERS in self.tags,
            "the place on the map (GeoTIFF)": self.orientation != 1 and GEO_TAGS & set(self.tags),
        }
        return tuple(name for name, there in names.items() if there)

    def _dpi(self) -> tuple[float, float] | None:
        with suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
            unit = {2: 1.0, 3: 2.54}[self.value(ExifTags.Base.ResolutionUnit, 2)]
            across = float(self.value(ExifTags.Base.XResolution, 0)) * unit
            down = float(self.value(ExifTags.Base.YResolution, 0)) * unit
            if 1 <= across <= 65_535 and 1 <= down <= 65_535:
                return (down, across) if self.orientation >= 5 else (across, down)
        return None


def is_tiff(start: bytes) -> bool:
    """Whether a file that begins so is a TIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_directory(file: IO[bytes]) -> TiffDirectory | None:
    """The directories of a TIFF; None for what has none that can be read.

    Raises:
        OSError: when the file cannot be read.
    """
    file.seek(0)
    head = file.read(16)
    if not is_tiff(head):
        return None
    big = b"+" in head[2:4]
    # Pillow knows BigTIFF by its third byte, which is so only in the little-endian kind.
    start = b"II+\0" + head[4:] if big else b"II*\0" + head[4:8]
    try:
        chain = _chain(file, start, head[:2], Tags(start, head[:2]).next)
        if not chain:
            return None
        main = chain[0]
        below = [_load(file, start, head[:2], place) for place in _places(main)]
        photos = [tags for tags in chain if not _is_reduced(tags)]
        frames = max(1, len(photos), _stacked(main))
        return TiffDirectory(
            main, frames, _is_raw(chain, below), _exif(file, start, head[:2], main)
        )
    # A malformed directory makes Pillow raise almost anything.
    except Exception:
        return None


def _load(file: IO[bytes], start: bytes, prefix: bytes, place: int, group: int = 0) -> Tags:
    tags = Tags(start, prefix, group or None)
    file.seek(place)
    tags.load(file)
    return tags


def _chain(file: IO[bytes], start: bytes, prefix: bytes, place: int) -> list[Tags]:
    chain: list[Tags] = []
    entries = 0
    seen: set[int] = set()
    while place and place not in seen and len(chain) < _MOST_DIRECTORIES:
        if entries > _MOST_ENTRIES:
            break
        seen.add(place)
        tags = _load(file, start, prefix, place)
        entries += len(tags)
        if not len(tags):
            break
        chain.append(tags)
        place = tags.next
    return chain


def _stacked(tags: Tags) -> int:
    """Pictures that ImageJ puts behind each other below one directory."""
    found = re.match(r"ImageJ=.*?\bimages=(\d+)", str(tags.get(270, "")), re.DOTALL)
    return int(found[1]) if found else 0


def _places(tags: Tags) -> list[int]:
    found = tags.get(_SUB_DIRECTORIES, ())
    found = found if isinstance(found, tuple) else (found,)
    return [place for place in found[:16] if isinstance(place, int)]


def _is_reduced(tags: Tags) -> bool:
    return bool(tags.get(_SUBFILE_TYPE, 0) & _REDUCED)


def _is_raw(chain: list[Tags], below: list[Tags]) -> bool:
    main = chain[0]
    kinds = {tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) for tags in (*chain, *below)}
    larger = any(_side(tags) > _side(main) for tags in below)
    # A camera's directories of the raw data may have no size that can be read.
    return bool(kinds & {_CFA, _LINEAR_RAW}) or _DNG_VERSION in main or _is_reduced(main) or larger


def _side(tags: Tags) -> int:
    sides = (tags.get(tag, 0) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH))
    return max((side for side in sides if isinstance(side, int)), default=0)


def _exif(file: IO[bytes], start: bytes, prefix: bytes, main: Tags) -> Image.Exif:
    """EXIF of a TIFF, of classic layout whatever that of the file; broken parts are left out."""
    exif = Image.Exif()
    for tag in main:
        with suppress(Exception):
            if tag not in OF_THE_FILE and tag not in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                exif[tag] = _single(main[tag])
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        with suppress(Exception):
            inner = _entries(_load(file, start, prefix, int(main[directory]), directory))
            place = inner.pop(ExifTags.IFD.Interop, None)
            if isinstance(place, int):
                tags = _load(file, start, prefix, place, ExifTags.IFD.Interop)
                inner[ExifTags.IFD.Interop] = _entries(tags)
            if inner:
                exif.get_ifd(directory).update(inner)
    # Read again, so that its directories have places as those of other files have.
    found = Image.Exif()
    with suppress(Exception):
        found.load(exif.tobytes())
    return found


def _entries(tags: Tags) -> dict[int, Any]:
    found = {}
    for tag in tags:
        with suppress(Exception):
            found[tag] = _single(tags[tag])
    return found


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value
