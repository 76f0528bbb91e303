"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from diffir_cli.errors import DiffIRError, InputError


@contextmanager
def file_errors(what: str, hint: str = "", kind: type[DiffIRError] = InputError) -> Iterator[None]:
    """Say of an error of the file system in the block what could not be done.

    Args:
        what: In words, such as `cannot write FILE`.
        hint: What may help.
        kind: As what it is raised.

    Raises:
        DiffIRError: of that kind, when there is one.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {error.strerror or error}", hint) from error


def check_reachable(path: Path, kind: type[DiffIRError] = InputError) -> None:
    """Refuse a name that nothing can be asked about: too long, or below a closed folder.

    Args:
        path: The name; it need not exist.
        kind: As what it is refused.

    Raises:
        DiffIRError: of that kind, when nothing can be asked.
    """
    with file_errors(f"cannot read {path}", "check its name and the folders above it", kind):
        path.exists()


def is_file(path: Path) -> bool:
    """Whether there is a file; False also below a closed folder, where nobody can see."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False also below a closed one, where nobody can see."""
    return os.path.isdir(path)  # noqa: PTH112


@contextmanager
def whole_file(
    path: Path, overwrite: bool = True, settled: Callable[[Path], None] | None = None
) -> Iterator[IO[bytes]]:
    """A file to write, which gets its name only when the block ends without an error.

    It lies in the same folder meanwhile, so that the last step is a rename inside one file system,
    and is on the disk before it gets its name.

    Args:
        path: The name it will have.
        overwrite: Whether a file of that name may be replaced.
        settled: Called with the file under its temporary name when it is whole and on the disk.

    Raises:
        FileExistsError: when it may not be replaced and there is one by then.
        OSError: when it cannot be written.
    """
    temporary = unfinished_name(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite and path.exists():
            # A private file stays private.
            shutil.copymode(path, temporary)
        if settled:
            settled(temporary)
        give_name(temporary, path, overwrite)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def unfinished_name(path: Path, owner: str = "") -> Path:
    """A name beside a file that is still to be written, which no other process uses.

    Args:
        path: The name it will have.
        owner: Whose it is, as `this_process` says there; by default that of this process.
    """
    # Its length does not depend on that of the name, which may be as long as the system allows.
    return path.with_name(f"{_PREFIX}{owner or this_process()}-{secrets.token_hex(4)}{_SUFFIX}")


def this_process() -> str:
    """Host and number of this process, which the names of its unfinished files contain."""
    return f"{_host()}-{os.getpid()}"


def give_name(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give a finished file its name.

    Raises:
        FileExistsError: when it may not replace one that has it.
        OSError: when it cannot be moved.
    """
    if overwrite:
        temporary.replace(path)
    else:
        _move_new(temporary, path)


_PREFIX, _SUFFIX = ".diffir-", ".part"
UNFINISHED = f"{_PREFIX}*{_SUFFIX}"
"""The pattern of unfinished files."""


_OLD = 24 * 3600
"""Seconds after which an unfinished file of another machine is taken for forgotten."""


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that are gone left of files in a folder."""
    for path in folder.glob(UNFINISHED):
        with suppress(OSError):
            if is_abandoned(path.name, path.stat().st_mtime):
                path.unlink()


def is_abandoned(name: str, changed: float) -> bool:
    """Whether an unfinished file is nobody's but this process's.

    Args:
        name: Its name.
        changed: When it was last written, in seconds since 1970.
    """
    match = re.fullmatch(f"{_PREFIX}([0-9a-f]+)-([0-9]+)-[0-9a-f]+{_SUFFIX}", name)
    if not match:
        return False
    host, process = match[1], int(match[2])
    own = host == _host() and (process == os.getpid() or not _is_alive(process))
    return own or time.time() - changed > _OLD


def _host() -> str:
    """A short word for this machine."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        # There a signal of zero would end it.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file, or replace it, whole or not at all."""
    with whole_file(path) as file:
        file.write(data)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        InputError: when it cannot be made.
    """
    with file_errors(f"cannot make the folder {path}", "name another one"):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make a folder for a block; when the block fails, those that were made and are empty go again.

    Raises:
        InputError: when it cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not is_folder(folder)]
    make_folder(path)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise


def file_sha256(path: Path) -> str:
    """Hash of a file.

    Raises:
        OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_new_file(path: Path, overwrite: bool) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Raises:
        InputError: when it is a folder or exists, or its folder is missing or closed.
    """
    taken = is_taken_by_file(path)
    if not path.parent.is_dir():
        raise InputError(
            f"cannot write {path}: no such folder: {path.parent}",
            f"mkdir -p {shlex.quote(str(path.parent))}",
        )
    if not may_write(path.parent):
        raise InputError(f"no permission to write to {path.parent}", "name another folder")
    if taken and not overwrite:
        raise already_exists(path)


def may_write(folder: Path) -> bool:
    """Whether this process may write into a folder, by all that it is allowed."""
    return _may(folder, os.W_OK)


def may_enter(folder: Path) -> bool:
    """Whether this process may reach what lies in a folder, by all that it is allowed."""
    return _may(folder, os.X_OK)


def _may(folder: Path, mode: int) -> bool:
    return os.access(folder, mode, effective_ids=os.access in os.supports_effective_ids)


def is_taken_by_file(path: Path) -> bool:
    """Whether a file, or a link that leads nowhere, has a name.

    Raises:
        InputError: when something else has it, or no file can.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        long = error.errno == errno.ENAMETOOLONG
        hint = "use a shorter name" if long else "name another folder"
        raise InputError(f"cannot write {path}: {error.strerror}", hint) from error
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file", "name a file in it")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file", "name a file")
    return True


def already_exists(path: Path) -> InputError:
    """What is wrong with a name that is taken."""
    return InputError(f"{path} already exists", "add --overwrite to replace it")


def write_text(path: Path, text: str, overwrite: bool) -> None:
    """Write a file of UTF-8 text, whole or not at all; bytes of names that are none are escaped.

    Raises:
        InputError: when it cannot be written, or exists and may not be replaced.
    """
    write_report(path, text.encode("utf-8", "backslashreplace"), overwrite)


def write_report(path: Path, data: bytes, overwrite: bool) -> None:
    """Write a file, whole or not at all.

    Raises:
        InputError: when it cannot be written, or exists and may not be replaced.
    """
    check_new_file(path, overwrite)
    refused = file_errors(f"cannot write {path}", "name another folder")
    with refused, whole_file(path, overwrite) as file:
        file.write(data)


def _move_new(temporary: Path, path: Path) -> None:
    """Give the file its name unless another has taken it meanwhile."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        # File systems without hard links: a rename is the next best.
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)
