"""Raw files of cameras: recognised so that their small preview is not taken for the photo."""

from __future__ import annotations

from pathlib import Path

from diffir_cli.errors import InputError

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos"}
    | {".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"}
    | {".srw", ".x3f"}
)
"""Endings by which they are found in folders, so that they are not left out silently."""

_STARTS = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM")
"""Of Olympus, Panasonic, Fujifilm, Sigma and Minolta."""


def starts_raw(start: bytes) -> bool:
    """Whether a file that begins so is a raw file; many others are TIFFs."""
    canon = start[8:10] == b"CR" or start[4:12] == b"ftypcrx " or start[6:14] == b"HEAPCCDR"
    return start.startswith(_STARTS) or canon


def raw_error(path: Path) -> InputError:
    """That a file is raw."""
    return InputError(
        f"{path} is a camera raw file or begins with a preview: develop it with a raw developer",
        "darktable, RawTherapee or the camera's own program save a 16-bit TIFF or PNG of it, "
        "which can be restored",
    )
