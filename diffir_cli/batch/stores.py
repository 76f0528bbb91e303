"""Folders in object stores, by URIs such as `s3://bucket/folder`.

Such a path acts like one of `pathlib` (universal-pathlib sees to that), but for what stands here.
There is no rename in an object store and no half-written object either: an upload is there whole or
not at all.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from diffir_cli.errors import DiffIRError, InputError
from diffir_cli.files import give_name
from diffir_cli.folders import state_folder

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def parse_place(text: str) -> Path:
    """A path, or a URI as something that acts like one.

    Raises:
        InputError: when nothing is installed for that kind of URI.
    """
    found = _URI.match(text)
    if not found:
        return Path(text)
    if found[1].lower() == "file":
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"{text} names another machine", "write file:///folder")
        return Path(url2pathname(parts.path))
    with reaching(text):
        path = importlib.import_module("upath").UPath(text)
        if not path.fs:
            raise ValueError("no such kind of URI")
        return cast(Path, path)


def is_remote(path: Path) -> bool:
    """Whether a path is a URI."""
    return hasattr(path, "storage_options")


@contextmanager
def reaching(path: Path | str) -> Iterator[None]:
    """Turn whatever goes wrong with a store in the block into one sentence.

    What goes wrong with a folder passes as it is.

    Raises:
        InputError: when anything does.
    """
    try:
        yield
    except (DiffIRError, FileExistsError):
        raise
    except Exception as error:
        if not (isinstance(path, str) or is_remote(path)):
            raise
        raise _refusal(path, error) from error


def _refusal(path: Path | str, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"no such object or bucket: {path}", "check its name")
    if isinstance(error, PermissionError):
        return InputError(f"not allowed to use {path}: {error}", "check the credentials")
    if isinstance(error, ImportError):
        return InputError(
            f"{path} needs a library that is not installed: {error}",
            "pip install 'diffir[s3]' or 'diffir[gs]'",
        )
    # Every store's library has errors of its own.
    return InputError(
        f"cannot reach {path}: {error}", "check the name, the network and the credentials"
    )


def real_path(path: Path) -> Path:
    """Where links lead in the end; unlike `resolve` it bears one that leads to itself."""
    return path if is_remote(path) else Path(os.path.realpath(path))


def is_taken(path: Path) -> bool:
    """Whether anything has this name, be it a link that leads nowhere."""
    if not is_remote(path):
        return os.path.lexists(path)
    with reaching(path):
        return path.exists()


def below(path: Path, folder: Path) -> PurePosixPath:
    """The path of a file below its folder."""
    if not is_remote(path):
        return PurePosixPath(path.relative_to(folder).as_posix())
    return PurePosixPath(_key(path).removeprefix(_key(folder)).lstrip("/"))


def objects_in(folder: Path, recursive: bool) -> list[Path]:
    """All objects of a folder in a store.

    Raises:
        InputError: when it cannot be listed.
    """
    store = _store(folder)
    with reaching(folder):
        keys = store.find(_key(folder), maxdepth=None if recursive else 1)
        return [_sibling(folder, key) for key in sorted(keys)]


def matching_objects(pattern: Path) -> list[Path]:
    """All objects whose names fit a pattern.

    Raises:
        InputError: when they cannot be listed.
    """
    with reaching(pattern.parent):
        found = _store(pattern).glob(_key(pattern), detail=True)
        return [
            _sibling(pattern, key)
            for key, about in sorted(found.items())
            if about["type"] != "directory"
        ]


def fetch(path: Path, most: int | None = None) -> bytes:
    """The content of a file, or its first bytes.

    Raises:
        InputError: when a store does not give it.
        OSError: when a folder does not.
    """
    if not is_remote(path):
        with path.open("rb") as file:
            return file.read(-1 if most is None else most)
    with reaching(path):
        return cast(bytes, _store(path).cat_file(_key(path), start=0, end=most))


def put(path: Path, data: bytes, overwrite: bool) -> None:
    """Upload an object.

    Raises:
        InputError: when the store does not take it, or has one that may not be replaced.
    """
    with reaching(path):
        if not overwrite and path.exists():
            raise InputError(f"{path} exists already", "add --on-exist overwrite")
        _store(path).pipe_file(_key(path), data)


def adopt(staged: Path, path: Path, overwrite: bool) -> None:
    """Give a finished file its name, in a folder or a store.

    Raises:
        FileExistsError: when it may not replace one that has it.
        InputError: when a store does not do it.
        OSError: when a folder does not.
    """
    if not is_remote(path):
        give_name(staged, path, overwrite)
        return
    with reaching(path):
        if not overwrite and path.exists():
            raise FileExistsError(path)
        _store(path).mv(_key(staged), _key(path))


def home_of(folder: Path) -> Path:
    """Where the journal and the lock of a folder lie: in it, or for a store on this machine."""
    if not is_remote(folder):
        return folder
    return state_folder() / "batch" / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def _store(path: Path) -> Any:
    """The file system of fsspec that a URI belongs to."""
    return cast(Any, path).fs


def _key(path: Path) -> str:
    return str(cast(Any, path).path).rstrip("/")


def _sibling(path: Path, key: str) -> Path:
    """Another object of the same store."""
    like = cast(Any, path)
    return cast(Path, type(like)(like.fs.unstrip_protocol(key), **like.storage_options))
