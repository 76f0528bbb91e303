"""The answer of a server, however it behaves: its head, and then its content piece by piece."""

from __future__ import annotations

import http.client
import os
import queue
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

_REDIRECTS = 10
_BLOCK = 2**17
_WAITING = 8
"""Pieces that may wait to be written."""
_BROKEN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
)


@dataclass(frozen=True)
class RetryPolicy:
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


class DownloadRefused(Exception):  # noqa: N818
    """The address does not have the file."""


class Stream:
    """An answer that is read in a thread of its own, since no timeout of a socket covers all.

    A server may go on for ever with lines of a header, with promises to go on, or behind the end
    of a file; whoever waits here gets an error after a while, whatever the thread does.
    """

    def __init__(self, url: str, headers: dict[str, str], retry: RetryPolicy) -> None:
        self._items: queue.Queue[Any] = queue.Queue(_WAITING)
        self._retry = retry
        self._gone = threading.Event()
        # Nobody waits for it at the end of the program.
        threading.Thread(target=self._read, args=(url, headers), daemon=True).start()

    def head(self) -> requests.Response:
        """The answer behind all redirects.

        Raises:
            Lost: when it does not come.
            DownloadRefused: when it cannot be taken.
        """
        answer: requests.Response = self._next(self._retry.connect + self._retry.read)
        return answer

    def pieces(self) -> Iterator[bytes]:
        """The content, as it comes.

        Raises:
            Lost: when it stops coming.
        """
        while piece := self._next(self._retry.read):
            yield piece

    def abandon(self) -> None:
        """Let the thread end when it next looks up."""
        self._gone.set()

    def _next(self, wait: float) -> Any:
        try:
            item = self._items.get(timeout=wait)
        except queue.Empty:
            raise Lost("the server did not answer in time") from None
        if isinstance(item, Exception):
            raise item
        return item

    def _put(self, item: object) -> bool:
        """Hand something over; False where nobody wants it any more."""
        while not self._gone.is_set():
            try:
                self._items.put(item, timeout=0.5)
            except queue.Full:
                continue
            return True
        return False

    def _read(self, url: str, headers: dict[str, str]) -> None:
        try:
            with requests.Session() as session:
                session.verify = os.environ.get("SSL_CERT_FILE") or True
                with _follow(session, url, headers, self._retry) as answer:
                    if not self._put(answer) or answer.status_code not in (200, 206):
                        return
                    # One read of the network at a time: a server that drips would not be noticed.
                    while piece := answer.raw.read1(_BLOCK, decode_content=False):
                        if not self._put(piece):
                            return
            self._put(b"")
        except (Lost, DownloadRefused) as error:
            self._put(error)
        except _BROKEN as error:
            self._put(judged(error))
        # Of certificates that are not where they should be, and of heads that make no sense.
        except (OSError, ValueError) as error:
            self._put(DownloadRefused(f"no connection: {printable(error)}"))


def _follow(
    session: requests.Session, url: str, headers: dict[str, str], retry: RetryPolicy
) -> requests.Response:
    """The answer behind all redirects, of which none leaves the web or gives up encryption."""
    for _ in range(_REDIRECTS):
        answer = session.get(
            url,
            headers=headers,
            stream=True,
            allow_redirects=False,
            timeout=(retry.connect, retry.read),
        )
        if answer.status_code not in (301, 302, 303, 307, 308):
            return answer
        found = session.get_redirect_target(answer)
        answer.close()
        if not found:
            raise DownloadRefused("it redirects without saying where to")
        target = urljoin(url, found)
        kinds = urlsplit(url).scheme, urlsplit(target).scheme
        if kinds[1] not in ("http", "https"):
            raise DownloadRefused(f"it redirects to {target!r}, which is no web address")
        if kinds == ("https", "http"):
            raise DownloadRefused(
                "it redirects from https to http, where anybody could change the file"
            )
        url = target
    raise DownloadRefused(f"it redirects more than {_REDIRECTS} times")


def judged(error: Exception) -> Lost | DownloadRefused:
    """Whether trying again may help, and why it was broken off."""
    causes: list[Any] = [error]
    while following := causes[-1].__cause__ or causes[-1].__context__:
        if not isinstance(following, Exception) or following in causes:
            break
        causes.append(following)
    # urllib3 keeps some causes as arguments only.
    causes += [one for cause in causes for one in cause.args if isinstance(one, Exception)]
    causes += [one.reason for one in causes if isinstance(getattr(one, "reason", None), Exception)]
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return DownloadRefused(f"its certificate cannot be trusted: {printable(cause)}")
        if isinstance(cause, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            return DownloadRefused(f"it is no web address: {printable(cause)}")
    if any(isinstance(cause, requests.Timeout | TimeoutError) for cause in causes):
        return Lost("the server did not answer in time")
    if isinstance(error, requests.ConnectionError):
        named = [cause for cause in causes if getattr(cause, "strerror", None)]
        return Lost(f"no connection: {printable(named[-1] if named else causes[-1])}")
    return Lost("the connection broke off")


def printable(text: object) -> str:
    """What a server or a library says, without what moves a terminal, and not all of it."""
    message = str(getattr(text, "strerror", None) or text)
    return "".join(letter for letter in message if letter.isprintable())[:200]
