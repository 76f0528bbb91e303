"""Folders in object stores, by URIs such as `s3://bucket/folder`.

Such a path acts like one of `pathlib` (universal-pathlib sees to that), but for what stands here.
There is no rename in an object store and no half-written object either: an upload is there whole or
not at all.
"""

from __future__ import annotations

import glob
import hashlib
import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from diffir_cli.errors import DiffIRError, InputError, MissingLibraryError
from diffir_cli.util.files import (
    UNFINISHED,
    give_name,
    is_abandoned,
    is_folder,
    remove_unfinished,
)
from diffir_cli.util.folders import state_folder

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "local": "file"}
_WHOLE = frozenset({"s3", "gs", "az", "abfs", "abfss", "oss", "oci", "memory"})
"""Kinds of stores that take an object whole or not at all."""


def parse_place(text: str) -> Path:
    """A path, or a URI as something that acts like one.

    Raises:
        InputError: when it is empty or no URI, or nothing is installed for that kind of URI.
    """
    if not text.strip():
        raise InputError("a file or folder has an empty name", "is a variable of your shell unset?")
    found = _URI.match(text)
    if not found:
        return Path(text)
    # One name for each place, so that a result cannot replace its source under another.
    kind = _ALIASES.get(found[1].lower(), found[1].lower())
    text = kind + text[found.end(1) :]
    if kind == "file":
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise InputError(f"{text} is no URI: {error}", "write file:///folder") from error
        if not parts.path:
            raise InputError(f"{text} names no folder", "write file:///folder")
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"{text} names another machine", "write file:///folder")
        return Path(url2pathname(parts.path))
    with store_errors(text):
        path = cast(Path, importlib.import_module("upath").UPath(text))
        if not _key(path):
            raise InputError(f"{text} names no bucket", f"write {kind}://bucket/folder")
        return path


def check_results_place(folder: Path) -> None:
    """Refuse a place for results that could be left with half of one.

    Raises:
        InputError: when it is neither a folder nor an object store.
    """
    kind = str(folder).split(":", 1)[0]
    if is_remote(folder) and kind not in _WHOLE:
        raise InputError(
            f"cannot write results to {folder}: {kind} can leave incomplete files",
            "use a folder, or an object store such as s3://bucket/folder",
        )


def is_remote(path: Path) -> bool:
    """Whether a path is a URI."""
    return hasattr(path, "storage_options")


@contextmanager
def store_errors(path: Path | str) -> Iterator[None]:
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
        return MissingLibraryError(
            f"{path} needs a library that is not installed: {error}",
            "pip install 'diffir-cli[s3]' or 'diffir-cli[gs]'",
        )
    # Every store's library has errors of its own.
    return InputError(
        f"cannot reach {path}: {error}", "check the name, the network and the credentials"
    )


def real_path(path: Path) -> Path:
    """Where links lead in the end; unlike `resolve` it bears one that leads to itself."""
    return path if is_remote(path) else Path(os.path.realpath(path))


def without_detours(path: Path) -> Path:
    """One spelling for each name, however its folder is reached; a link itself stays a link."""
    return path if is_remote(path) else real_path(path.parent) / path.name


def is_file(path: Path) -> bool:
    """Whether there is something that is no folder, which an object store does not know."""
    return not is_remote(path) and is_taken(path) and not is_folder(path)


def is_taken(path: Path) -> bool:
    """Whether anything has this name, be it a link that leads nowhere."""
    if not is_remote(path):
        return os.path.lexists(path)
    with store_errors(path):
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
    with store_errors(folder):
        store.invalidate_cache(_key(folder))
        if recursive:
            keys = store.find(_key(folder))
        else:
            # Unlike a shallow `find`, it remembers what was listed.
            found = store.ls(_key(folder), detail=True)
            keys = [about["name"] for about in found if about["type"] == "file"]
        return [_sibling(folder, key) for key in sorted(keys)]


def objects_named(folder: Path, pattern: str) -> list[Path]:
    """All objects directly in a folder whose bare names fit a pattern.

    Raises:
        InputError: when they cannot be listed.
    """
    key = f"{glob.escape(_key(folder))}/{pattern}"
    with store_errors(folder):
        _store(folder).invalidate_cache(_key(folder))
        return [_sibling(folder, found) for found in sorted(_store(folder).glob(key))]


def matching_objects(pattern: Path) -> list[Path]:
    """All objects whose names fit a pattern.

    Raises:
        InputError: when they cannot be listed.
    """
    with store_errors(pattern.parent):
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
    with store_errors(path):
        store, key = _store(path), _key(path)
        if most is None:
            return cast(bytes, store.cat_file(key))
        # Of an empty object there is no range.
        return cast(bytes, store.cat_file(key, start=0, end=most)) if store.size(key) else b""


def put(path: Path, data: bytes, overwrite: bool) -> None:
    """Upload an object.

    Raises:
        InputError: when the store does not take it, or has one that may not be replaced.
    """
    if overwrite:
        with store_errors(path):
            _store(path).pipe_file(_key(path), data)
        return
    try:
        _check_free(path)
        with store_errors(path):
            try:
                # The store itself refuses it if another has come in between.
                _store(path).pipe_file(_key(path), data, mode="create")
            except NotImplementedError:
                _store(path).pipe_file(_key(path), data)
    except FileExistsError as error:
        raise InputError(f"{path} already exists", "add --on-exist overwrite") from error


def remove(path: Path) -> None:
    """Remove a file or an object; what is not there is no fault.

    Raises:
        InputError: when a store does not do it.
        OSError: when a folder does not.
    """
    with store_errors(path), suppress(FileNotFoundError):
        if is_remote(path):
            _store(path).rm_file(_key(path))
        else:
            path.unlink()


def _check_free(path: Path) -> None:
    """Make sure that a store has no object of a name, whatever it was listed as before.

    Raises:
        FileExistsError: when it has.
        InputError: when it does not say.
    """
    with store_errors(path):
        _store(path).invalidate_cache(_key(path.parent))
        if _store(path).exists(_key(path)):
            raise FileExistsError(path)


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
    if not overwrite:
        _check_free(path)
    with store_errors(path):
        # Not `mv`, which would take brackets in a folder's name for a pattern.
        _store(path).cp_file(_key(staged), _key(path))
        _store(path).rm_file(_key(staged))


def remove_abandoned(folder: Path) -> None:
    """Remove unfinished results of processes that are gone.

    Raises:
        InputError: when a store does not list them.
    """
    if not is_remote(folder):
        remove_unfinished(folder)
        return
    for path in objects_named(folder, UNFINISHED):
        with store_errors(path):
            if is_abandoned(path.name, path.stat().st_mtime):
                remove(path)


def home_of(folder: Path) -> Path:
    """Where the journal and the lock of a folder lie: in it, or for a store on this machine."""
    if not is_remote(folder):
        return folder
    return state_folder() / "batch" / hashlib.sha256(os.fsencode(str(folder))).hexdigest()[:16]


def _store(path: Path) -> Any:
    """The file system of fsspec that a URI belongs to."""
    return cast(Any, path).fs


def _key(path: Path) -> str:
    return str(cast(Any, path).path).rstrip("/")


def _sibling(path: Path, key: str) -> Path:
    """Another object of the same store."""
    like = cast(Any, path)
    return cast(Path, type(like)(like.fs.unstrip_protocol(key), **like.storage_options))
