"""Pictures to image files: checked before the work, written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffir_cli.errors import InputError
from diffir_cli.files import whole_file
from diffir_cli.imaging.deep import encode_deep
from diffir_cli.imaging.metadata import Metadata, software_exif
from diffir_cli.imaging.picture import Picture

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_SIDE_LIMITS = {"JPEG": 65_535, "WEBP": 16_383}
_SETTINGS: dict[str, dict[str, Any]] = {
    "PNG": {},
    # Full-resolution colour: halving it would blur what was just restored.
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
}


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before anything is read or computed.

    Raises:
        InputError: when it has no known ending, is a folder or exists, or its folder is missing.
    """
    exists = _exists_already(path)
    if exists and path.is_dir():
        raise InputError(
            f"{path} is a folder, not a file", f"name a file in it: {path / 'out.png'}"
        )
    if path.suffix.lower() not in _FORMATS:
        fault = f"unknown ending {path.suffix!r}" if path.suffix else "its name has no ending"
        raise InputError(f"cannot write {path}: {fault}", f"use one of {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(
            f"cannot write {path}: no such folder: {path.parent}", f"mkdir -p '{path.parent}'"
        )
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"not allowed to write into {path.parent}", "name another folder")
    if exists and not overwrite:
        raise _taken(path)


def _exists_already(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "use a shorter name") from error
    return True


def check_fit(path: Path, size: tuple[int, int], alpha: bool, deep: bool = False) -> None:
    """Refuse a picture that the target's format cannot hold.

    Args:
        path: The target.
        size: (width, height) of the result in pixels.
        alpha: Whether it has transparency.
        deep: Whether it has 16 bits a channel.

    Raises:
        InputError: when the format is JPEG and there is transparency, a side is too long, or there
            are 16 bits a channel and the format is not PNG.
    """
    kind = _FORMATS[path.suffix.lower()]
    if deep and kind != "PNG":
        raise InputError(
            f"{path} cannot hold the 16 bits a channel of the input",
            f"write a PNG instead: {path.with_suffix('.png')}",
        )
    if alpha and kind == "JPEG":
        raise InputError(
            f"{path} cannot hold the transparency of the input",
            f"write a PNG or WebP instead: {path.with_suffix('.png')}",
        )
    limit = _SIDE_LIMITS.get(kind)
    if limit is not None and max(size) > limit:
        raise InputError(
            f"{path} cannot hold {size[0]}×{size[1]} pixels: {kind} ends at {limit} a side",
            f"write a PNG instead: {path.with_suffix('.png')}",
        )


def check_coding(path: Path, quality: int | None, lossless: bool) -> None:
    """Refuse settings that have no effect on the target's format.

    Raises:
        InputError: when `quality` is given and the format has none, or `lossless` for JPEG.
    """
    kind = _FORMATS[path.suffix.lower()]
    if lossless and kind == "JPEG":
        raise InputError(f"{path} cannot be lossless: JPEG never is", "write a PNG or WebP instead")
    if quality is not None and (kind == "PNG" or lossless):
        raise InputError(f"--quality has no effect on {path}, which loses nothing", "leave it out")


def write_picture(
    picture: Picture,
    path: Path,
    overwrite: bool = False,
    quality: int | None = None,
    lossless: bool = False,
) -> None:
    """Write a picture in the format of the ending; a file is there whole or not at all.

    Args:
        picture: What to write.
        path: Where to.
        overwrite: Whether a file of that name may be replaced.
        quality: Of JPEG and WebP, 1 to 100; None for 95.
        lossless: Whether WebP loses nothing.

    Raises:
        InputError: when the target cannot be written or exists and may not be replaced.
    """
    check_target(path, overwrite)
    check_fit(path, picture.size, picture.alpha is not None, picture.deep)
    kind = _FORMATS[path.suffix.lower()]
    try:
        with whole_file(path, overwrite) as file:
            if picture.deep:
                file.write(encode_deep(_planes(picture), picture.metadata))
            else:
                pixels = _planes(picture)
                image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
                settings = {**_SETTINGS[kind], **_described(kind, picture.metadata)}
                if quality is not None and "quality" in settings:
                    settings["quality"] = quality
                if lossless and kind == "WEBP":
                    # Else colours under full transparency would be lost.
                    settings |= {"lossless": True, "exact": True}
                image.save(file, kind, **settings)
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}",
            "free some space" if error.errno == errno.ENOSPC else "name another folder",
        ) from error


def _taken(path: Path) -> InputError:
    return InputError(f"{path} exists already", "add --overwrite to replace it")


def _planes(picture: Picture) -> NDArray[Any]:
    """(H, W, 1 to 4) channels as the file has them."""
    planes = [picture.rgb]
    if picture.grey:
        mean = picture.rgb.mean(axis=2, keepdims=True)
        planes = [np.rint(mean).astype(picture.rgb.dtype)]
    if picture.alpha is not None:
        planes.append(picture.alpha[:, :, None])
    return np.concatenate(planes, axis=2)


def _described(kind: str, metadata: Metadata) -> dict[str, Any]:
    """What Pillow is told to write about the picture."""
    exif = metadata.exif
    if kind == "PNG":
        notes = PngInfo()
        if metadata.software:
            notes.add_text("Software", metadata.software)
        if metadata.xmp:
            notes.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
        found: dict[str, Any] = {"pnginfo": notes}
    else:
        found = {"xmp": metadata.xmp} if metadata.xmp else {}
        if exif is None and metadata.software:
            exif = software_exif(metadata.software)
    if exif:
        found["exif"] = exif
    if metadata.icc:
        found["icc_profile"] = metadata.icc
    return found
