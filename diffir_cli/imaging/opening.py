"""Opening image files: by their content, within limits, and with words for whatever goes wrong."""

from __future__ import annotations

import io
import shlex
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from diffir_cli.errors import DeviceError, DiffIRError, InputError
from diffir_cli.imaging.formats import (
    DECODED,
    EXTRA_DECODED,
    INSTALL_EXTRA,
    load_extra_decoders,
    looks_extra,
)
from diffir_cli.imaging.png import LONGEST_TEXT
from diffir_cli.imaging.tiff_directory import is_tiff

MAX_PIXELS = 178_956_970
"""Larger pictures are refused before they are decoded: where Pillow sees a decompression bomb."""


@contextmanager
def decode_errors(path: Path, data: bytes | None, max_pixels: int) -> Iterator[None]:
    """Turn whatever goes wrong with a file in the block into one sentence about it.

    Raises:
        InputError: when anything does.
        DeviceError: when there is not enough memory for it.
    """
    try:
        if data is None and path.is_dir():
            raise InputError(f"{path} is a folder, not an image", "name one of the images in it")
        yield
    except DiffIRError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}", "check the name and the folder") from error
    except PermissionError as error:
        raise InputError(
            f"no permission to read {path}", f"chmod u+r {shlex.quote(str(path))}"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, "a decompression bomb", max_pixels) from error
    except UnidentifiedImageError as error:
        if kind := _kind_of(_start_of(path, data)):
            raise InputError(
                f"cannot read {path}: the {kind}",
                "copy or download it again, or save it as PNG with another program",
            ) from error
        raise InputError(
            f"cannot read {path}: not a supported image", _readable_hint(path, data)
        ) from error
    except MemoryError as error:
        raise DeviceError(
            f"the machine ran out of memory while reading {path}",
            "shrink the picture, or use a machine with more memory",
        ) from error
    # A malformed file makes a decoder raise almost anything.
    except Exception as error:
        if "MAX_TEXT_" in str(error):
            raise InputError(
                f"cannot read {path}: a text or profile in it unfolds to more than "
                f"{LONGEST_TEXT >> 20} MiB",
                "save it without its metadata with another program",
            ) from error
        if str(error).startswith("Unsupported "):
            raise InputError(
                f"cannot read {path}: u{str(error)[1:]}", "save it as PNG with another program"
            ) from error
        raise InputError(
            f"cannot read {path}: the file is damaged or incomplete ({error})",
            "copy or download it again, or save it as PNG with another program",
        ) from error


class _Limits:
    """Limits of the whole process, shared by all threads that want the same at a time."""

    def __init__(self) -> None:
        self.queue = threading.Lock()
        """Held by who waits for others to leave, so that nobody overtakes it."""
        self.left = threading.Condition()
        self.users = 0
        self.wanted: tuple[int, bool] | None = None
        self.undo = ExitStack()

    @contextmanager
    def shared(self, wanted: tuple[int, bool]) -> Iterator[None]:
        """Have these limits in the block; while others are in use, wait."""
        with self.queue, self.left:
            self.left.wait_for(lambda: not self.users or self.wanted == wanted)
            if not self.users:
                self.undo.enter_context(_changed_limits(*wanted))
                self.wanted = wanted
            self.users += 1
        try:
            yield
        finally:
            with self.left:
                self.users -= 1
                if not self.users:
                    self.undo.close()
                    self.left.notify()


_LIMITS = _Limits()


def pillow_limits(max_pixels: int, allow_truncated: bool) -> AbstractContextManager[None]:
    """Pillow's limits and warnings, which belong to the whole process, for one picture.

    Threads with the same limits decode beside each other; others wait for them.
    """
    return _LIMITS.shared((max_pixels, allow_truncated))


@contextmanager
def _changed_limits(max_pixels: int, allow_truncated: bool) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        text_before = PngImagePlugin.MAX_TEXT_CHUNK
        # Pillow refuses what is more than twice its limit.
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
        ImageFile.LOAD_TRUNCATED_IMAGES = allow_truncated
        PngImagePlugin.MAX_TEXT_CHUNK = LONGEST_TEXT
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before
            PngImagePlugin.MAX_TEXT_CHUNK = text_before


@contextmanager
def opened_file(path: Path, data: bytes | None) -> Iterator[IO[bytes]]:
    """A file to read from, whether it is on the disk or in memory."""
    with path.open("rb") if data is None else io.BytesIO(data) as file:
        yield file


def open_picture(path: Path, data: bytes | None, max_pixels: int) -> Image.Image:
    """The image, by its content, not decoded yet; extra libraries only where no other fits.

    Raises:
        InputError: when it is too large.
        UnidentifiedImageError: when it is no picture.
        OSError: when it cannot be read.
    """
    source = path if data is None else io.BytesIO(data)
    try:
        image = Image.open(source, formats=DECODED)
    except UnidentifiedImageError:
        found = load_extra_decoders()
        if not found:
            raise
        image = Image.open(source, formats=[name for name in EXTRA_DECODED if name in found])
    try:
        check_size(path, image.size, max_pixels)
    except InputError:
        image.close()
        raise
    return image


def check_size(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    """Refuse a picture that is too large.

    Raises:
        InputError: when it has more pixels.
    """
    width, height = size
    if width * height > max_pixels:
        raise _too_large(path, f"{width}×{height} pixels", max_pixels)


def _readable_hint(path: Path, data: bytes | None) -> str:
    """What may help with a file that no decoder knows."""
    start = _start_of(path, data)
    if looks_extra(start):
        return INSTALL_EXTRA
    return "use a PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF file"


def _kind_of(start: bytes) -> str:
    """What a file that begins so claims to be, and what may be wrong with it."""
    if is_tiff(start):
        return "TIFF is damaged or incomplete"
    kinds = {
        b"\xff\xd8\xff": "JPEG is damaged, lossless, or has 12 bits per channel",
        b"\x89PNG\r\n\x1a\n": "PNG is damaged",
        b"RIFF": "WebP is damaged" if start[8:12] == b"WEBP" else "",
    }
    if start[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF is damaged, or too large for its decoder"
    return next((kind for magic, kind in kinds.items() if start.startswith(magic)), "")


def _start_of(path: Path, data: bytes | None) -> bytes:
    if data is not None:
        return data[:16]
    with suppress(OSError), path.open("rb") as file:
        return file.read(16)
    return b""


def _too_large(path: Path, size: str, limit: int) -> InputError:
    return InputError(
        f"{path} is too large: {size}; the limit is {limit:,} pixels",
        "raise --max-pixels, or cut or shrink it with another program",
    )
