"""One run for a folder at a time."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from diffir_cli.batch.stores import real_path
from diffir_cli.errors import InputError
from diffir_cli.util.files import file_errors, write_atomically
from diffir_cli.util.lock import locked_file


@contextmanager
def locked(folder: Path, shard: str = "", called: Path | None = None) -> Iterator[None]:
    """Hold a folder while the block runs; a block that fails leaves no file of a new lock.

    Args:
        folder: Where results are written.
        shard: Which part of them, such as `3-of-8`.
        called: What messages call the folder.

    Raises:
        InputError: when another run holds it, or the folder takes no files.
    """
    called = called or folder
    path = folder / (f".diffir-lock-{shard}" if shard else ".diffir-lock")
    owner, is_new = _owner_of(path), not path.exists()
    with ExitStack() as stack:
        with file_errors(f"cannot write into {folder}", "name another folder"):
            stack.enter_context(locked_file(path, partial(_refuse, called, owner)))
        try:
            _check_others(folder, path, not shard, called)
            with suppress(OSError):
                who = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
                write_atomically(owner, json.dumps(who).encode())
            yield
        except BaseException:
            if is_new:
                with suppress(OSError):
                    path.unlink()
            raise
        finally:
            # Before the lock is given back, lest another run's is removed.
            with suppress(OSError):
                owner.unlink(missing_ok=True)


def check_around(folders: Iterable[Path], homes: Iterable[Path]) -> None:
    """Refuse folders into which, or above which, another run writes.

    Args:
        folders: Where files are replaced.
        homes: Those that this run holds.

    Raises:
        InputError: when there is such a run.
    """
    own = {real_path(home) for home in homes}
    found = {real_path(place) for place in folders}
    for folder in {above for below in found for above in (below, *below.parents)}:
        if folder not in own and folder.is_dir():
            _check_others(folder, None, True, folder)
            _check_others(folder, None, False, folder)


def _check_others(folder: Path, own: Path | None, undivided: bool, called: Path) -> None:
    """Refuse shards beside an undivided run, and the other way round.

    Raises:
        InputError: when there are such.
    """
    others = folder.glob(".diffir-lock-*") if undivided else [folder / ".diffir-lock"]
    for other in others:
        if other == own or not other.exists():
            continue
        with (
            file_errors(f"cannot read {other}", "remove it, if no run uses it"),
            locked_file(other, partial(_refuse, called, _owner_of(other))),
        ):
            pass


def _owner_of(lock: Path) -> Path:
    """The file that says who has a lock."""
    return lock.with_name(lock.name.replace("lock", "owner") + ".json")


def _refuse(called: Path, owner: Path) -> None:
    raise InputError(
        f"another run is writing into {called}: {_described(owner)}",
        "wait for it, or name another folder",
    )


def _described(owner: Path) -> str:
    try:
        who = json.loads(owner.read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(who["since"]))
        return f"process {who['pid']} on {who['host']}, since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it does not say which"
