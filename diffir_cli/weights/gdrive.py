"""One file of Google Drive, through gdown, which knows its pages.

An address is `gdrive:ID` for a file whose identifier is known, or `gdrive-folder:ID/NAME` for a
file of a public folder. Such a folder is listed first; NAME may be a pattern such as `*GANx2.pth`.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any

import requests

from diffir_cli.errors import DiffIRError
from diffir_cli.weights.http import LARGEST, Part, check_space
from diffir_cli.weights.transfer import DownloadRefused, RetryPolicy, judged, printable

_FILE, _FOLDER = "gdrive:", "gdrive-folder:"
PREFIXES = (_FILE, _FOLDER)
"""What addresses of Google Drive begin with."""
_SHOWN = 8
"""Files of a folder that a message names."""


def fetch(url: str, part: Part, retry: RetryPolicy, notify: Callable[[int, int], None]) -> None:
    """Bring a file whole into its part.

    Args:
        url: Begins with one of `PREFIXES`.
        part: Where it goes.
        retry: When to give up.
        notify: Called with the bytes that are there and those of the whole, 0 where not known.

    Raises:
        DownloadRefused: when gdown is not installed or does not get the file.
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

    shared = {
        "quiet": True,
        # Nothing is written outside of the cache.
        "use_cookies": False,
        "verify": os.environ.get("SSL_CERT_FILE") or True,
        "timeout": (retry.connect, retry.read),
    }
    with _cleaned(part):
        file = url.removeprefix(_FILE)
        if url.startswith(_FOLDER):
            folder, _, name = url.removeprefix(_FOLDER).partition("/")
            listed = _called(
                gdown.download_folder, id=folder, skip_download=True, remaining_ok=True, **shared
            )
            file = _identifier(listed or [], name)
        _called(
            gdown.download,
            id=file,
            output=str(part.path),
            retries=retry.attempts - 1,
            progress=advance,
            **shared,
        )
        if not part.size:
            raise DownloadRefused("Google Drive sent nothing")
        with part.path.open("rb") as content:
            if content.read(64).lstrip().startswith(b"<"):
                raise DownloadRefused("Google Drive sent a web page instead of the file")


def _called(function: Callable[..., Any], **options: Any) -> Any:
    """A function of gdown with those options that its version has."""
    known = inspect.signature(function).parameters
    return function(**{name: value for name, value in options.items() if name in known})


def _identifier(listed: list[Any], name: str) -> str:
    """The identifier of the file of a folder that has a name or fits a pattern.

    Raises:
        DownloadRefused: when there is none, or more than one.
    """
    files = {one.id: PurePath(one.path).as_posix() for one in listed}
    if not files:
        raise DownloadRefused(
            "Google Drive shows no files in the folder: it may be gone, or ask you to sign in"
        )
    pattern = name.lower()
    found = {
        one: path
        for one, path in files.items()
        if fnmatchcase(path.lower(), pattern) or fnmatchcase(PurePath(path).name.lower(), pattern)
    }
    if len(found) == 1:
        return next(iter(found))
    shown = sorted((found or files).values())
    names = printable(", ".join(shown[:_SHOWN]) + (", …" if len(shown) > _SHOWN else ""))
    if found:
        raise DownloadRefused(f"{len(found)} files of the folder fit {name}: {names}")
    raise DownloadRefused(f"the folder has no {name}, but {names}")


@contextmanager
def _cleaned(part: Part) -> Iterator[None]:
    """Word what gdown raises in the block, and leave nothing of a file that is not whole."""
    try:
        yield
    except BaseException as error:
        part.remove()
        # What gdown itself has begun.
        for begun in part.path.parent.glob(f"{part.path.name}*.part"):
            begun.unlink(missing_ok=True)
        if isinstance(error, DiffIRError | DownloadRefused) or not isinstance(error, Exception):
            raise
        raise DownloadRefused(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Why there is no file, from whatever gdown and its libraries raise."""
    cause = error.__cause__ or error
    if isinstance(cause, requests.RequestException) and cause.response is None:
        return str(judged(cause))
    text = " ".join(str(error).split())
    if any(word in text.lower() for word in ("too many users", "quota")):
        return "too many people have downloaded the file from Google Drive: try again tomorrow"
    if "cannot retrieve the public link" in text.lower():
        return (
            "Google Drive shows a page instead of the file: it asks you to sign in, or too many "
            "people have downloaded it"
        )
    text = printable(text.split(". ")[0] or type(error).__name__)
    return f"Google Drive refuses the download: {text}"
