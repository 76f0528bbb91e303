"""How each result of a folder was made, so that the same command goes on after any stop.

One line of JSON for each file that is finished or failed, appended before the result gets its name:
a line whose result is not there, or is another file, counts for nothing. So a stop between the two
does no harm.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from diffir_cli.batch.stores import fetch, is_remote, is_taken, objects_named, put, store_errors
from diffir_cli.errors import InputError
from diffir_cli.util.files import file_errors, file_sha256, make_folder, write_atomically
from diffir_cli.util.tables import parse_table

_PREFIX = ".diffir-journal"
_PULLED = ".store.jsonl"
"""The ending of what an object store has of a journal."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """One file that is finished or failed."""

    input: str
    """Path of the source as the plan has it."""
    output: str
    """Path of the result below its folder, with slashes."""
    size: int = 0
    """Bytes of the source."""
    mtime_ns: int = 0
    """When the source was last changed."""
    sha256: str = ""
    """Of the source."""
    mask_sha256: str = ""
    """Of its mask, where there is one."""
    options: str = ""
    """Digest of all that decides over the pixels beside source and weights."""
    weights: str = ""
    """The sha256 of the weights."""
    output_sha256: str = ""
    """Of the result; empty where there is none."""
    output_size: int = 0
    """Bytes of the result."""
    output_mtime_ns: int = 0
    """When the result was written."""
    precision: str = ""
    """The number format of the DIRformer. It decides nothing: what `auto` takes on another machine
    does not make a result out of date."""
    seconds: float = 0.0
    """From decoding to writing."""
    error: str = ""
    """Why there is no result."""


class Journal:
    """The lines of a folder, and the file that new ones are appended to.

    Args:
        folder: Where the results lie.
        shard: Whose lines are written, such as `3-of-8`; empty for an undivided run. The lines of
            all shards are read.
        heal: Whether a torn last line is cut off; else nothing is written.

    Raises:
        InputError: when the journal cannot be read or written, or is no regular file.
    """

    def __init__(self, folder: Path, shard: str = "", heal: bool = True) -> None:
        self.path = folder / f"{_PREFIX}{'-' + shard if shard else ''}.jsonl"
        self.records: dict[str, list[Record]] = {}
        """What was finished under each name, the newest last; a failure takes nothing back."""
        _refuse_links(folder)
        with file_errors(f"cannot read the journal {self.path}", "check its permissions"):
            if heal:
                _heal(self.path)
            self.read(folder)

    def read(self, folder: Path) -> None:
        """Add what the journals of a folder say.

        Raises:
            OSError: when one cannot be read.
        """
        _read_all(folder, self.records)


def pull_journals(folder: Path, home: Path) -> None:
    """Bring the journals that lie beside results in a store; those written here are not touched.

    Raises:
        InputError: when the store does not give them, or they cannot be written here.
    """
    if not is_remote(folder):
        return
    make_folder(home)
    for path in objects_named(folder, f"{_PREFIX}*.jsonl"):
        own = home / path.name.replace(".jsonl", _PULLED)
        write_atomically(own, _united(fetch(path)))


def push_journal(folder: Path, own: Path) -> None:
    """Put a journal beside the results in a store, with what other machines have put there.

    Raises:
        InputError: when the store does not take it.
    """
    if not is_remote(folder):
        return
    path = folder / own.name
    there = fetch(path) if is_taken(path) else b""
    here = own.read_bytes() if own.exists() else b""
    put(path, _united(there, here), True)


def _united(*journals: bytes) -> bytes:
    """All whole lines, each once."""
    lines = dict.fromkeys(line for data in journals for line in data.split(b"\n")[:-1])
    return b"".join(line + b"\n" for line in lines if line)


def append(path: Path, record: Record) -> None:
    """Add a line to a journal, which is on the disk when this returns.

    Raises:
        OSError: when it cannot be written.
    """
    line = (json.dumps(_without_defaults(record), ensure_ascii=True) + "\n").encode("ascii")
    if _is_torn(path):
        line = b"\n" + line
    # One write to the end of the file, so that lines of several processes do not mix.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        written = os.write(descriptor, line)
        if written < len(line):
            # A full disk takes a part without a word.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def _is_torn(path: Path) -> bool:
    """Whether the last line of a file has no end."""
    try:
        with path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def is_intact(record: Record, target: Path) -> bool:
    """Whether a result is still the very file that a line speaks of."""
    if not record.output_sha256:
        return False
    try:
        found = target.stat()
    except OSError:
        return False
    # Some stores keep no times.
    same = (found.st_size, found.st_mtime_ns) == (record.output_size, record.output_mtime_ns)
    return same and bool(record.output_mtime_ns)


def is_of(record: Record, source: Path) -> bool:
    """Whether a line speaks of a source: of the same path, or moved and with the same content.

    Raises:
        OSError: when the source cannot be read.
    """
    if record.input in (str(source), str(source.absolute())):
        return True
    return source.stat().st_size == record.size and file_sha256(source) == record.sha256


def is_current(record: Record, source: Path, mask: Path | None, options: str, weights: str) -> str:
    """Why a finished file must be done again; empty where nothing has changed.

    A source of the same path, size and time is taken for unchanged without being read.

    Raises:
        OSError: when the source cannot be read.
        InputError: when the mask cannot be read.
    """
    if record.weights != weights:
        return "other weights"
    if record.options != options:
        return "other options"
    found = source.stat()
    same_path = record.input in (str(source), str(source.absolute()))
    same_time = same_path and found.st_mtime_ns == record.mtime_ns != 0
    if found.st_size != record.size or not (same_time or file_sha256(source) == record.sha256):
        return "the picture has changed"
    if _mask_sha256(mask) != record.mask_sha256:
        return "the mask has changed"
    return ""


def _mask_sha256(mask: Path | None) -> str:
    if mask is None:
        return ""
    with store_errors(mask), file_errors(f"cannot read the mask {mask}", "check its permissions"):
        return file_sha256(mask)


def _without_defaults(record: Record) -> dict[str, Any]:
    return {
        field.name: value
        for field, value in zip(fields(record), asdict(record).values(), strict=True)
        if value != field.default
    }


def _refuse_links(folder: Path) -> None:
    """Refuse journals that are no files of their own: a folder from elsewhere may have such links.

    Raises:
        InputError: when there is one.
    """
    for path in folder.glob(f"{_PREFIX}*.jsonl"):
        if path.is_symlink() or not path.is_file():
            raise InputError(f"the journal {path} is no regular file", "remove it")


def _heal(path: Path) -> None:
    """Cut a last line that a crash left torn."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def _read_all(folder: Path, records: dict[str, list[Record]]) -> None:
    """Add what was finished under each name, of all journals of a folder."""
    names = {field.name for field in fields(Record)}
    paths = folder.glob(f"{_PREFIX}*.jsonl")
    # What a store has is older than what was written here.
    for path in sorted(paths, key=lambda path: (not path.name.endswith(_PULLED), path)):
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            try:
                values = json.loads(line)
                known = {key: values[key] for key in values if key in names}
                parsed, faults = parse_table(Record, known)
                if faults:
                    raise ValueError(faults)
                record = Record(**parsed)
                for name in (record.input, record.output):
                    if b"\0" in os.fsencode(name):
                        raise ValueError("no file has such a name")
            except (ValueError, TypeError, RecursionError):
                _log.warning("line %d of %s is damaged and counts for nothing", number, path)
                continue
            if record.output_sha256:
                records.setdefault(record.output, []).append(record)
