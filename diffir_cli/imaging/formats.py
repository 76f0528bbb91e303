"""The formats that image files can have, and what each can hold."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, features

from diffir_cli.errors import InputError, MissingLibraryError, UsageError


@dataclass(frozen=True)
class Format:
    """A format that can be written.

    Attributes:
        name: As Pillow calls it.
        endings: Of file names, the usual one first.
        longest_side: In pixels; None for no limit.
        alpha: Whether it holds transparency.
        deep: Whether it holds 16 bits a channel.
        lossy: Whether it has a quality.
        lossless: Whether it can lose nothing.
        grey: Whether it holds grey as one channel.
        longest_note: Bytes that EXIF and XMP may have each; None for no limit.
        any_profile: Whether it keeps any colour profile, not sRGB alone.
        extra: Whether it needs a library that is not always there.
    """

    name: str
    endings: tuple[str, ...]
    longest_side: int | None = None
    alpha: bool = True
    deep: bool = False
    lossy: bool = False
    lossless: bool = True
    grey: bool = True
    longest_note: int | None = None
    any_profile: bool = True
    extra: bool = False


FORMATS = (
    Format("PNG", (".png",), deep=True),
    Format(
        "JPEG", (".jpg", ".jpeg"), 65_500, False, lossy=True, lossless=False, longest_note=65_502
    ),
    Format("WEBP", (".webp",), 16_383, lossy=True, grey=False),
    Format("TIFF", (".tif", ".tiff"), deep=True),
    Format("AVIF", (".avif",), 32_768, lossy=True, lossless=False, grey=False),
    Format("JXL", (".jxl",), lossy=True, any_profile=False, extra=True),
    Format("BMP", (".bmp",), alpha=False, any_profile=False),
    Format("HEIF", (".heic", ".heif"), 16_384, lossy=True, lossless=False, grey=False, extra=True),
)
"""What is written."""

DECODED = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
"""What is read: fewer decoders are fewer ways for a file to do harm."""

EXTRA_DECODED = ("HEIF", "JXL")
"""What is read besides where its library is installed."""

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}
    | {".heic", ".heif", ".jxl"}
)
"""Endings by which a folder's pictures are found; a file named on its own may have any ending."""

INSTALL_EXTRA = "pip install 'diffir-cli[formats]'"

_PNG = FORMATS[0]


def format_of(path: Path, requested: str | None = None) -> Format:
    """The format to write a file in: the one requested, else that of its ending.

    Args:
        path: The file to write.
        requested: An ending with or without its dot, in any case; None for that of `path`.

    Raises:
        UsageError: when there is no such format, or the two differ.
        InputError: when the ending is that of no format.
        MissingLibraryError: when the library of the format is missing.
    """
    by_ending = _find(path.suffix)
    if requested is None:
        if by_ending is None:
            fault = (
                f"unknown extension {path.suffix!r}" if path.suffix else "its name has no extension"
            )
            endings = (format_.endings[0] for format_ in FORMATS)
            raise InputError(f"cannot write {path}: {fault}", f"use one of {', '.join(endings)}")
        return _available(by_ending, path)
    format_ = _find(requested)
    if format_ is None:
        names = (format_.endings[0][1:] for format_ in FORMATS)
        raise UsageError(
            f"--format must be one of {', '.join(names)}, not {requested!r:.40}",
            _nearest(requested),
        )
    if by_ending not in (None, format_):
        raise UsageError(
            f"the extension of {path} does not match the format {format_.name}",
            f"name it {path.with_suffix(format_.endings[0]).name}",
        )
    return _available(format_, path)


def format_like(name: str) -> Format:
    """The format that Pillow calls so where it can be written as it is, else PNG."""
    # Pillow calls a JPEG with further pictures MPO.
    name = "JPEG" if name == "MPO" else name
    return next((format_ for format_ in FORMATS if format_.name == name), _PNG)


def load_extra_decoders() -> tuple[str, ...]:
    """Teach Pillow the formats of the libraries that are installed; their names."""
    found = []
    for module, name in (("pillow_heif", "HEIF"), ("pillow_jxl", "JXL")):
        try:
            plugin = importlib.import_module(module)
        except ImportError:
            continue
        if name == "HEIF" and name not in Image.OPEN:
            plugin.register_heif_opener()
        found.append(name)
    return tuple(found)


def looks_extra(start: bytes) -> bool:
    """Whether a file that begins so is one that only an extra library reads."""
    heif = start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
    return heif or start.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL "))


def _find(ending: str) -> Format | None:
    ending = "." + ending.lower().removeprefix(".")
    return next((format_ for format_ in FORMATS if ending in format_.endings), None)


def _nearest(requested: str) -> str:
    """What someone who wrote an unknown format may have meant."""
    endings = [ending[1:] for format_ in FORMATS for ending in format_.endings]
    near = difflib.get_close_matches(requested.lower().removeprefix("."), endings, 1)
    return f"did you mean {near[0]}?" if near else "write --format png"


def _available(format_: Format, path: Path) -> Format:
    missing = format_.name not in load_extra_decoders() if format_.extra else False
    if missing or (format_.name == "AVIF" and not features.check("avif")):
        raise MissingLibraryError(
            f"cannot write {path}: the library for {format_.name} is not installed", INSTALL_EXTRA
        )
    return format_
