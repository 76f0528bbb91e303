"""Pictures to image files: checked before the work, written whole or not at all."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import IO

from diffir_cli.errors import InputError, UsageError
from diffir_cli.imaging.encode import encode
from diffir_cli.imaging.fitting import fit_metadata
from diffir_cli.imaging.formats import Format, format_of
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.tiff import LARGEST
from diffir_cli.util.files import already_exists, check_new_file, is_taken_by_file, whole_file


def check_target(path: Path, overwrite: bool, requested: str | None = None) -> Format:
    """Refuse a target that cannot be written, before anything is read or computed.

    Args:
        path: The target.
        overwrite: Whether a file of that name may be replaced.
        requested: The ending of the format; None for that of `path`.

    Returns:
        The format it will have.

    Raises:
        InputError: when it has no known format, is a folder or exists, or its folder is missing.
    """
    # First, since the name of a folder has no ending either.
    is_taken_by_file(path)
    format_ = format_of(path, requested)
    check_new_file(path, overwrite)
    return format_


def check_fit(
    path: Path,
    size: tuple[int, int],
    alpha: bool,
    deep: bool = False,
    format_: Format | None = None,
) -> None:
    """Refuse a picture that the target's format cannot hold.

    Args:
        path: The target.
        size: (width, height) of the result in pixels.
        alpha: Whether it has transparency.
        deep: Whether it has 16 bits a channel.
        format_: None for that of the ending.

    Raises:
        InputError: when there is transparency or there are 16 bits a channel that the format does
            not have, or it is too large.
    """
    format_ = format_ or format_of(path)
    if deep and not format_.deep:
        raise InputError(
            f"{path} cannot store the 16 bits per channel of the input",
            f"write a PNG or TIFF instead: {path.with_suffix('.png')}",
        )
    if alpha and not format_.alpha:
        raise InputError(
            f"{path} cannot store the transparency of the input",
            f"add --background white, or write a PNG or WebP: {path.with_suffix('.png')}",
        )
    limit = format_.longest_side
    if limit is not None and max(size) > limit:
        raise InputError(
            f"{path} cannot store {size[0]}×{size[1]} pixels: {format_.name} allows {limit}",
            f"write a PNG instead: {path.with_suffix('.png')}",
        )
    if format_.name == "TIFF" and size[0] * size[1] * 4 * (2 if deep else 1) > LARGEST:
        raise InputError(
            f"{path} cannot store {size[0]}×{size[1]} pixels: TIFF allows 4 GiB",
            f"write a PNG instead: {path.with_suffix('.png')}",
        )


def check_metadata(path: Path, format_: Format, picture: Picture) -> None:
    """Refuse what is said about a picture where the target's format cannot hold it.

    Raises:
        InputError: when EXIF or XMP is too long for it, or it would lose a colour profile.
    """
    metadata, _ = fit_metadata(picture, format_)
    for name, block in (("EXIF", metadata.exif), ("XMP", metadata.xmp)):
        if block and format_.longest_note and len(block) > format_.longest_note:
            raise InputError(
                f"{path} cannot store the {len(block):,} bytes of {name} of the input: "
                f"{format_.name} allows {format_.longest_note:,}",
                "add --strip-metadata, or write a PNG or TIFF",
            )
    if metadata.icc and not format_.any_profile:
        raise InputError(
            f"{path} would lose the colour profile of the input, and its colours would shift",
            f"write a PNG instead: {path.with_suffix('.png')}",
        )


def check_coding(
    path: Path, quality: int | None, lossless: bool, format_: Format | None = None
) -> None:
    """Refuse settings that have no effect on the target's format, by default that of its ending.

    Raises:
        UsageError: when `quality` is given and the format has none, or `lossless` and it never is.
    """
    format_ = format_ or format_of(path)
    if lossless and not format_.lossless:
        raise UsageError(
            f"--lossless cannot be used with {format_.name}", "write a PNG or WebP instead"
        )
    if quality is not None and (lossless or not format_.lossy):
        what = "--lossless" if lossless else f"{format_.name}, which is lossless"
        raise UsageError(f"--quality cannot be used with {what}", "leave --quality out")


def write_picture(
    picture: Picture,
    path: Path,
    overwrite: bool = False,
    quality: int | None = None,
    lossless: bool = False,
    format_: Format | None = None,
    settled: Callable[[Path], None] | None = None,
) -> None:
    """Write a picture; a file is there whole or not at all.

    Args:
        picture: What to write.
        path: Where to.
        overwrite: Whether a file of that name may be replaced.
        quality: Of a lossy format, 1 to 100; None for 95.
        lossless: Whether a format that can loses nothing.
        format_: None for that of the ending.
        settled: Called with the file under its temporary name when it is whole and on the disk.

    Raises:
        InputError: when the target cannot be written or exists and may not be replaced.
    """
    if format_:
        # Also under another ending: in place, a file keeps its name and its format.
        check_new_file(path, overwrite)
    else:
        format_ = check_target(path, overwrite)
    picture = picture.for_format(format_)
    check_fit(path, picture.size, picture.alpha is not None, picture.deep, format_)
    check_metadata(path, format_, picture)
    try:
        with whole_file(path, overwrite, settled) as file:
            _encode(picture, format_, file, path, quality, lossless)
    except FileExistsError as error:
        raise already_exists(path) from error
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}",
            "free some space" if error.errno == errno.ENOSPC else "name another folder",
        ) from error


def encode_picture(
    picture: Picture,
    path: Path,
    format_: Format,
    quality: int | None = None,
    lossless: bool = False,
) -> bytes:
    """The content of a picture's file.

    Args:
        picture: What to write.
        path: What messages call the file.
        format_: Its format.
        quality: Of a lossy format, 1 to 100; None for 95.
        lossless: Whether a format that can loses nothing.

    Raises:
        InputError: when the format cannot hold the picture.
    """
    picture = picture.for_format(format_)
    check_fit(path, picture.size, picture.alpha is not None, picture.deep, format_)
    check_metadata(path, format_, picture)
    buffer = io.BytesIO()
    _encode(picture, format_, buffer, path, quality, lossless)
    return buffer.getvalue()


def _encode(
    picture: Picture,
    format_: Format,
    file: IO[bytes],
    path: Path,
    quality: int | None,
    lossless: bool,
) -> None:
    try:
        encode(picture, format_, file, quality, lossless)
    # What an encoder raises when it cannot do a picture; a full disk is told apart by its number.
    except (ValueError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"cannot write {path} as {format_.name}: {error}", "write a PNG instead"
        ) from error
