"""One file of Google Drive, through gdown, which knows its pages."""

from __future__ import annotations

import importlib
from typing import Any

from diffir_cli.downloads.http import Part, Refused

PREFIX = "gdrive:"


def fetch(url: str, part: Part) -> None:
    """Bring a file whole into its part.

    Args:
        url: `gdrive:` and the file's identifier.
        part: Where it goes.

    Raises:
        Refused: when gdown is not installed or does not get the file.
    """
    try:
        gdown: Any = importlib.import_module("gdown")
    except ImportError as error:
        raise Refused("Google Drive needs gdown: pip install 'diffir[gdrive]'") from error
    part.remove()
    try:
        found = gdown.download(id=url.removeprefix(PREFIX), output=str(part.path), quiet=True)
    # gdown raises what its own libraries raise.
    except Exception as error:
        part.remove()
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(f"Google Drive does not give it: {said}") from error
    if not found or not part.size:
        raise Refused("Google Drive does not give it")
