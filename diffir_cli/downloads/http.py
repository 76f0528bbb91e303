"""One file by HTTP, over a network that drops, stalls, redirects and lies.

What has arrived lies in a `.part` file, with a note beside it of what it is a part of, so that any
later attempt goes on there if the server still has the same file.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from diffir_cli.errors import WeightsError
from diffir_cli.files import write_atomically
from diffir_cli.version import __version__

_REDIRECTS = 10
_BLOCK = 2**17
_BROKEN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
)
LARGEST = 2**33
"""Bytes of a file whose size nobody has promised."""


@dataclass(frozen=True)
class Patience:
    """How long to put up with a network.

    Attributes:
        connect: Seconds until a server answers a call.
        read: Seconds between two pieces of an answer.
        attempts: How often an address is tried without any progress.
        pause: Seconds before the second attempt; each further pause is twice as long.
        slowest: Bytes a second, on the average of `window`, below which an answer is given up.
        window: Seconds.
    """

    connect: float = 15
    read: float = 30
    attempts: int = 4
    pause: float = 1
    slowest: float = 1024
    window: float = 60


class Lost(Exception):  # noqa: N818
    """The connection was lost or made no sense: trying again may help."""

    def __init__(self, reason: str, wait: float = 0, vain: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        """Seconds that the server asked for."""
        self.vain = vain
        """Whether what arrived meanwhile is too little to count."""


class Refused(Exception):  # noqa: N818
    """The address does not have the file."""


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

    def sha256(self) -> str:
        """Hash of what there is."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    url: str,
    part: Part,
    size: int,
    patience: Patience,
    tell: Callable[[int, int], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Bring a file whole into its part.

    Args:
        url: Where it is.
        part: Where it goes; what is there already is kept where the server allows.
        size: Bytes that it must have; 0 where they are not known.
        patience: When to give up.
        tell: Called with the bytes that are there and those of the whole, 0 where not known.
        sleep: For tests.

    Raises:
        Refused: when the address does not have the file, or gives up too often.
        WeightsError: when it cannot be written here.
    """
    failures, most = 0, 12 * patience.attempts
    for _ in range(most):
        before = part.size
        try:
            _attempt(url, part, size, patience, tell)
            return
        except Lost as lost:
            gained = part.size > before and not lost.vain
            failures = 1 if gained else failures + 1
            if failures >= patience.attempts:
                raise Refused(str(lost)) from lost
            sleep(max(lost.wait, patience.pause * 2 ** (failures - 1)))
    raise Refused(f"the connection was lost {most} times")


def _attempt(
    url: str, part: Part, size: int, patience: Patience, tell: Callable[[int, int], None]
) -> None:
    note = part.note()
    if note.url != url or (size and part.size > size):
        part.remove()
        note = _Note()
    if size and part.size == size:
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": f"diffir/{__version__}"}
    validator = note.etag or note.modified
    if part.size and validator:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": validator}
    with requests.Session() as session:
        session.verify = os.environ.get("SSL_CERT_FILE") or True
        try:
            with _follow(session, url, headers, patience) as answer:
                total = _accept(answer, url, part, size)
                _receive(answer, part, size, total, patience, tell)
        except requests.exceptions.SSLError as error:
            raise Refused(f"its certificate cannot be trusted: {_root(error)}") from error
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise Refused(f"it is no web address: {error}") from error
        except _BROKEN as error:
            raise Lost(_reason(error)) from error


def _follow(
    session: requests.Session, url: str, headers: dict[str, str], patience: Patience
) -> requests.Response:
    """The answer behind all redirects, of which none leaves the web or gives up encryption."""
    for _ in range(_REDIRECTS):
        answer = session.get(
            url,
            headers=headers,
            stream=True,
            allow_redirects=False,
            timeout=(patience.connect, patience.read),
        )
        if answer.status_code not in (301, 302, 303, 307, 308):
            return answer
        target = urljoin(url, answer.headers.get("Location", ""))
        answer.close()
        kinds = urlsplit(url).scheme, urlsplit(target).scheme
        if kinds[1] not in ("http", "https"):
            raise Refused(f"it redirects to {target!r}, which is no web address")
        if kinds == ("https", "http"):
            raise Refused("it redirects from https to http, where anybody could change the file")
        url = target
    raise Refused(f"it redirects more than {_REDIRECTS} times")


def _accept(answer: requests.Response, url: str, part: Part, size: int) -> int:
    """Look at the head of an answer; bytes of the whole file, 0 where it does not say."""
    code = answer.status_code
    if code in (408, 425, 429) or code >= 500:
        raise Lost(f"the server answered {code} {answer.reason}", _retry_after(answer))
    if code == 416:
        part.remove()
        raise Lost("the server has no such part of the file")
    if code not in (200, 206):
        raise Refused(f"the server answered {code} {answer.reason}")
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused("the server packs the file, which was not asked for")
    length = answer.headers.get("Content-Length", "")
    found = int(length) if length.isdigit() else 0
    # A weak tag says nothing about bytes.
    etag = answer.headers.get("ETag", "")
    fresh = _Note(
        url, "" if etag.startswith("W/") else etag, answer.headers.get("Last-Modified", "")
    )
    if code == 206:
        total = _check_range(answer, part, fresh)
    else:
        part.begin(fresh)
        total = found
    if size and total and total != size:
        part.remove()
        raise Refused(f"the server has a file of {total:,} bytes instead of {size:,}")
    if total > LARGEST:
        raise Refused(f"the server has a file of {total:,} bytes, more than weights have")
    return total


def _check_range(answer: requests.Response, part: Part, fresh: _Note) -> int:
    """Make sure that a piece is the rest of this very file; bytes of the whole."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    known = part.note()
    same = known.etag == fresh.etag if fresh.etag else known.modified == fresh.modified
    if not (match and int(match[1]) == part.size and same):
        part.remove()
        raise Lost("the server sent another part than was asked for, or of another file")
    return 0 if match[2] == "*" else int(match[2])


def _receive(
    answer: requests.Response,
    part: Part,
    size: int,
    total: int,
    patience: Patience,
    tell: Callable[[int, int], None],
) -> None:
    here, most = part.size, size or LARGEST
    tell(here, size or total)
    began, at = time.monotonic(), here
    try:
        with part.path.open("ab") as file:
            # One read of the network at a time: else a server that drips would never be noticed.
            while piece := answer.raw.read1(_BLOCK, decode_content=False):
                here += len(piece)
                if here > most:
                    raise Refused(f"the server sends more than {most:,} bytes")
                file.write(piece)
                tell(here, size or total)
                passed = time.monotonic() - began
                if passed > patience.window:
                    if here - at < patience.slowest * passed:
                        raise Lost("the server has become too slow", vain=True)
                    began, at = time.monotonic(), here
            file.flush()
            os.fsync(file.fileno())
    except Refused:
        part.remove()
        raise
    except _BROKEN:
        raise
    except OSError as error:
        raise WeightsError(
            f"cannot write {part.path}: {error.strerror}", "free some space, or set DIFFIR_HOME"
        ) from error
    whole = size or total
    if whole and here < whole:
        raise Lost(f"the connection ended after {here:,} of {whole:,} bytes")


def _retry_after(answer: requests.Response) -> float:
    """Seconds that a server asks to be left alone, within reason."""
    with suppress(ValueError):
        return min(60.0, max(0.0, float(answer.headers.get("Retry-After", "0"))))
    return 0.0


def _reason(error: Exception) -> str:
    """Why a connection broke, without the addresses of objects in memory."""
    if isinstance(error, requests.Timeout | TimeoutError) or "timed out" in str(error):
        return "the server did not answer in time"
    if isinstance(error, requests.ConnectionError):
        return f"no connection: {_root(error)}"
    return "the connection broke off"


def _root(error: BaseException) -> str:
    """What the last cause of an error says."""
    while following := error.__cause__ or error.__context__:
        error = following
    return str(getattr(error, "strerror", None) or error)
