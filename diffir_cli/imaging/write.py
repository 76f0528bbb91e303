"""Pictures to image files: checked before the work, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffir_cli.errors import InputError
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
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, not a file", f"name a file in it: {path / 'out.png'}"
        )
    if path.suffix.lower() not in _FORMATS:
        ending = f"ending {path.suffix!r}" if path.suffix else "file name without an ending"
        raise InputError(
            f"cannot write {path}: unknown {ending}", f"use one of {', '.join(_FORMATS)}"
        )
    if not path.parent.is_dir():
        raise InputError(
            f"cannot write {path}: no such folder: {path.parent}", f"mkdir -p '{path.parent}'"
        )
    if not overwrite and os.path.lexists(path):
        raise InputError(f"{path} exists already", "add --overwrite to replace it")


def check_fit(path: Path, size: tuple[int, int], alpha: bool) -> None:
    """Refuse a picture that the target's format cannot hold.

    Args:
        path: The target.
        size: (width, height) of the result in pixels.
        alpha: Whether it has transparency.

    Raises:
        InputError: when the format is JPEG and there is transparency, or a side is too long.
    """
    kind = _FORMATS[path.suffix.lower()]
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


def write_picture(picture: Picture, path: Path, overwrite: bool = False) -> None:
    """Write a picture in the format of the ending; a file is there whole or not at all.

    Raises:
        InputError: when the target cannot be written or exists and may not be replaced.
    """
    check_target(path, overwrite)
    check_fit(path, picture.size, picture.alpha is not None)
    kind = _FORMATS[path.suffix.lower()]
    settings = dict(_SETTINGS[kind])
    if picture.icc:
        settings["icc_profile"] = picture.icc
    # In the same folder, so that the last step is a rename inside one file system.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            _to_image(picture).save(file, kind, **settings)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            _move_new(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _move_new(temporary: Path, path: Path) -> None:
    """Give the file its name unless another has taken it meanwhile."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError as error:
        raise InputError(f"{path} exists already", "add --overwrite to replace it") from error
    except OSError:
        # File systems without hard links: a rename is the next best.
        temporary.replace(path)


def _to_image(picture: Picture) -> Image.Image:
    planes = [picture.rgb]
    if picture.grey:
        mean = picture.rgb.mean(axis=2, keepdims=True)
        planes = [np.rint(mean).astype(np.uint8)]
    if picture.alpha is not None:
        planes.append(picture.alpha[:, :, None])
    pixels = np.concatenate(planes, axis=2)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
