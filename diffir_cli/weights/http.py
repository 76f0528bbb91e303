"""One file by HTTP, over a network that drops, stalls, redirects and lies.

What has arrived lies in a `.part` file, with a note beside it of what it is a part of, so that any
later attempt goes on there if the server still has the same file.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from diffir_cli.errors import WeightsError
from diffir_cli.util.files import write_atomically
from diffir_cli.version import __version__
from diffir_cli.weights.transfer import DownloadRefused, Lost, RetryPolicy, Stream, printable

_log = logging.getLogger(__name__)
_LONG = 5
"""Seconds from which a pause is said."""
_SPARE = 2**24
"""Bytes that stay free beside a download."""
_BETWEEN = 2**26
"""Bytes between two looks at the free space."""
LARGEST = 2**33
"""Bytes of a file whose size nobody has promised."""
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"diffir/{__version__}"}


@dataclass
class _Note:
    """What a part is a part of."""

    url: str = ""
    etag: str = ""
    modified: str = ""


class Part:
    """What has arrived of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note_path = path.with_name(path.name + ".json")

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def note(self) -> _Note:
        """Where it came from; empty where that is not known."""
        try:
            return _Note(**json.loads(self._note_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return _Note()

    def begin(self, note: _Note) -> None:
        """Throw away what there is, and note what is to come."""
        self.remove()
        write_atomically(self._note_path, json.dumps(asdict(note)).encode())

    def remove(self) -> None:
        """Throw it away."""
        for path in (self.path, self._note_path):
            path.unlink(missing_ok=True)

    def forget_note(self) -> None:
        """It has become a file."""
        self._note_path.unlink(missing_ok=True)


def fetch(
    url: str, part: Part, size: int, retry: RetryPolicy, notify: Callable[[int, int], None]
) -> bool:
    """Bring a file whole into its part.

    Args:
        url: Where it is.
        part: Where it goes; what is there already is kept where the server allows.
        size: Bytes that it must have; 0 where they are not known.
        retry: When to give up.
        notify: Called with the bytes that are there and those of the whole, 0 where not known.

    Returns:
        Whether its length was known, so that nothing can be missing at its end.

    Raises:
        DownloadRefused: when the address does not have the file, or gives up too often.
        WeightsError: when it cannot be written here.
    """
    failures, most = 0, 12 * retry.attempts
    for _ in range(most):
        before = part.size
        try:
            return _attempt(url, part, size, retry, notify)
        except Lost as lost:
            gained = part.size > before and not lost.vain
            failures = 1 if gained else failures + 1
            if failures >= retry.attempts:
                raise DownloadRefused(str(lost)) from lost
            pause = max(lost.wait, retry.pause * 2 ** (failures - 1))
            if pause >= _LONG:
                _log.warning("%s: trying again in %.0f seconds", lost, pause)
            time.sleep(pause)
    raise DownloadRefused(f"the connection was lost {most} times")


def content_length(url: str, retry: RetryPolicy) -> int:
    """Bytes of the file at an address, from the head of an answer; 0 where that does not say."""
    stream = Stream(url, _HEADERS, retry)
    try:
        answer = stream.head()
    except (Lost, DownloadRefused):
        return 0
    finally:
        stream.abandon()
    return _length(answer) if answer.status_code == 200 else 0


def check_space(folder: Path, missing: int) -> None:
    """Refuse what a disk has no room for.

    Raises:
        WeightsError: when less is free than is missing and what must stay free.
    """
    free = shutil.disk_usage(folder).free
    if free < missing + _SPARE:
        raise WeightsError(
            f"{missing:,} more bytes are needed in {folder}, and {free:,} are free",
            "free some space, or set DIFFIR_HOME to another folder",
        )


def _attempt(
    url: str, part: Part, size: int, retry: RetryPolicy, notify: Callable[[int, int], None]
) -> bool:
    note = part.note()
    if note.url != url or (size and part.size > size):
        part.remove()
        note = _Note()
    if size and part.size == size:
        return True
    headers = dict(_HEADERS)
    validator = note.etag or note.modified
    if part.size and validator:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": validator}
    stream = Stream(url, headers, retry)
    try:
        total = _accept(stream.head(), url, part, size)
        _receive(stream, part, size, total, retry, notify)
    finally:
        stream.abandon()
    return bool(size or total)


def _accept(answer: requests.Response, url: str, part: Part, size: int) -> int:
    """Look at the head of an answer; bytes of the whole file, 0 where it does not say."""
    code = answer.status_code
    if code in (408, 425, 429) or code >= 500:
        raise Lost(f"the server answered {code} {printable(answer.reason)}", _retry_after(answer))
    if code == 416:
        part.remove()
        raise Lost("the server has no such part of the file")
    if code not in (200, 206):
        raise DownloadRefused(f"the server answered {code} {printable(answer.reason)}")
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadRefused("the server compresses the file, which was not requested")
    # A weak tag says nothing about bytes.
    etag = answer.headers.get("ETag", "")
    modified = answer.headers.get("Last-Modified", "")
    fetched = _Note(url, "" if etag.startswith("W/") else etag, modified)
    total = _check_range(answer, part, fetched) if code == 206 else _length(answer)
    # Before anything is thrown away: it may be a page of another machine on the way.
    if size and total and total != size:
        raise DownloadRefused(f"the server has a file of {total:,} bytes instead of {size:,}")
    if total > LARGEST:
        raise DownloadRefused(f"the server has a file of {total:,} bytes, more than weights have")
    if code == 200:
        part.begin(fetched)
    check_space(part.path.parent, max(0, (size or total) - part.size))
    return total


def _length(answer: requests.Response) -> int:
    length = answer.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,15}", length) else 0


def _check_range(answer: requests.Response, part: Part, fetched: _Note) -> int:
    """Make sure that a piece is the rest of this very file; bytes of the whole."""
    header = answer.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)", header)
    known = part.note()
    same = known.etag == fetched.etag if fetched.etag else known.modified == fetched.modified
    if not (match and int(match[1]) == part.size and same):
        part.remove()
        raise Lost("the server sent another part than was asked for, or of another file")
    return 0 if match[2] == "*" else int(match[2])


def _receive(
    stream: Stream,
    part: Part,
    size: int,
    total: int,
    retry: RetryPolicy,
    notify: Callable[[int, int], None],
) -> None:
    here, whole = part.size, size or total
    notify(here, whole)
    began, at = time.monotonic(), here
    try:
        with part.path.open("ab") as file:
            for piece in stream.pieces():
                if here // _BETWEEN != (here + len(piece)) // _BETWEEN:
                    check_space(part.path.parent, _BETWEEN)
                here += len(piece)
                if here > (size or LARGEST):
                    raise DownloadRefused(f"the server sends more than {size or LARGEST:,} bytes")
                file.write(piece)
                notify(here, whole)
                passed = time.monotonic() - began
                if passed > retry.window:
                    if here - at < retry.slowest * passed:
                        raise Lost("the server has become too slow", vain=True)
                    began, at = time.monotonic(), here
                if here == whole:
                    # What a server says behind the end is of no interest.
                    break
            file.flush()
            os.fsync(file.fileno())
    except DownloadRefused:
        part.remove()
        raise
    except OSError as error:
        raise WeightsError(
            f"cannot write {part.path}: {error.strerror}", "free some space, or set DIFFIR_HOME"
        ) from error
    if whole and here < whole:
        raise Lost(f"the connection ended after {here:,} of {whole:,} bytes")


def _retry_after(answer: requests.Response) -> float:
    """Seconds that a server asks to be left alone, within reason."""
    with suppress(ValueError):
        return min(60.0, max(0.0, float(answer.headers.get("Retry-After", "0"))))
    return 0.0
