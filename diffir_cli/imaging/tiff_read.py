"""TIFF files to pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from diffir_cli.errors import InputError
from diffir_cli.imaging.deep import turned
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.profiled import cmyk_to_rgb
from diffir_cli.imaging.raw import raw_error
from diffir_cli.imaging.tiff_directory import TiffDirectory, read_directory
from diffir_cli.imaging.tiff_layout import Layout, layout_of
from diffir_cli.imaging.tiff_pixels import read_planes


def open_tiff(file: IO[bytes], path: Path) -> tuple[TiffDirectory, Layout | None] | None:
    """Directory and layout of a TIFF; None where a file is none, no layout where Pillow reads it.

    Raises:
        InputError: when it is the raw file of a camera, or its numbers are no levels of a picture.
        OSError: when it cannot be read.
    """
    directory = read_directory(file)
    if directory is None:
        return None
    if directory.raw:
        raise raw_error(path)
    layout = layout_of(directory)
    if layout is not None and (fault := layout.refusal()):
        raise unreadable(path, fault)
    return directory, layout


def unreadable(path: Path, what: str) -> InputError:
    """That a TIFF is of a kind that cannot be read."""
    return InputError(
        f"cannot read {path}: it is a TIFF with {what}",
        "save it with 8 or 16 bits per channel, as grey or RGB, with another program",
    )


def read_tiff(file: IO[bytes], path: Path, directory: TiffDirectory, layout: Layout) -> Picture:
    """The first picture of a TIFF, upright.

    Raises:
        InputError: when its numbers are no levels of a picture.
        OSError: when it is damaged.
    """
    colours, alpha = read_planes(file, path, directory, layout)
    colours = turned(colours, directory.orientation)
    alpha = None if alpha is None else turned(alpha, directory.orientation)
    metadata = directory.metadata(layout.spare)
    if layout.colours == 4:
        image = cmyk_to_rgb(Image.fromarray(colours, "CMYK"), metadata.icc)
        metadata = replace(metadata, icc=None)
        return Picture(np.asarray(image), None, False, metadata, layout.reduced, "TIFF")
    grey = layout.colours == 1
    if grey:
        colours = np.repeat(colours, 3, axis=2)
    return Picture(colours, alpha, grey, metadata, layout.reduced, "TIFF")
