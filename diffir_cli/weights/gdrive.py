"""One file of Google Drive, through gdown, which knows its pages."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from diffir_cli.errors import DiffIRError
from diffir_cli.weights.http import LARGEST, Part, check_space
from diffir_cli.weights.transfer import DownloadRefused, RetryPolicy

PREFIX = "gdrive:"


def fetch(url: str, part: Part, retry: RetryPolicy, notify: Callable[[int, int], None]) -> None:
    """Bring a file whole into its part.

    Args:
        url: `gdrive:` and the file's identifier.
        part: Where it goes.
        retry: When to give up.
        notify: Called with the bytes that are there and those of the whole, 0 where not known.

    Raises:
        Refused: when gdown is not installed or does not get the file.
    """
    try:
        gdown: Any = importlib.import_module("gdown")
    except ImportError as error:
        raise DownloadRefused(
            "Google Drive needs gdown: pip install 'diffir-cli[gdrive]'"
        ) from error
    part.remove()

    def advance(here: int, whole: int | None) -> None:
        check_space(part.path.parent, max(0, (whole or 0) - here))
        if here > LARGEST:
            raise DownloadRefused(f"it sends more than {LARGEST:,} bytes")
        notify(here, whole or 0)

    requested = {
        "timeout": (retry.connect, retry.read),
        "retries": retry.attempts - 1,
        "progress": advance,
    }
    # Older versions know less.
    known = inspect.signature(gdown.download).parameters
    options = {name: value for name, value in requested.items() if name in known}
    try:
        found = gdown.download(
            id=url.removeprefix(PREFIX), output=str(part.path), quiet=True, **options
        )
    except (DiffIRError, DownloadRefused):
        part.remove()
        raise
    # gdown raises what its own libraries raise.
    except Exception as error:
        part.remove()
        lines = [line.strip() for line in str(error).splitlines()]
        message = " ".join(filter(None, lines)) or type(error).__name__
        raise DownloadRefused(f"Google Drive refuses the download: {message[:300]}") from error
    if not found or not part.size:
        raise DownloadRefused("Google Drive refuses the download")
