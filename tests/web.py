"""A web server on this machine that does to downloads what real ones do."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENVIRONMENT = (
    "DIFFIR_OFFLINE",
    "HF_HUB_OFFLINE",
    "DIFFIR_REGISTRY",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
"""What must not be set by whoever runs the tests."""


@dataclass
class Web:
    """What a server has, and what it was asked for."""

    content: bytes
    address: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    etag: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.etag = f'"{hashlib.sha256(self.content).hexdigest()[:8]}"'

    def url(self, way: str) -> str:
        return f"{self.address}/{way}/tiny.pth"

    def asked_for(self, way: str) -> list[dict[str, str]]:
        """The headers of all requests that went one way."""
        return [headers for path, headers in self.asked if f"/{way}/" in path]


class _Handler(BaseHTTPRequestHandler):
    """`/WAY/FILE`: the way says how the file is served."""

    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.web.asked.append(
            (self.path, {key.lower(): text for key, text in self.headers.items()})
        )
        way = self.path.removeprefix("http://example.invalid").split("/")[1]
        with suppress(BrokenPipeError, ConnectionResetError):
            getattr(self, way)()

    @property
    def _times(self) -> int:
        way = self.path.split("/")[1]
        return len(self.web.asked_for(way))

    def _begin(self) -> int:
        """First byte that is asked for of the file that the client knows."""
        wanted = self.headers.get("Range", "")
        fits = self.headers.get("If-Range", self.web.etag) == self.web.etag
        return int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and fits else 0

    def _head(self, code: int = 200, length: int | None = None, **more: str) -> None:
        self.send_response(code)
        self.send_header("ETag", self.web.etag)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, text in more.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()

    def _rest(self) -> bytes:
        """The head for what is asked for, and what it is."""
        begin, whole = self._begin(), len(self.web.content)
        rest = self.web.content[begin:]
        if begin:
            self._head(206, len(rest), Content_Range=f"bytes {begin}-{whole - 1}/{whole}")
        else:
            self._head(200, len(rest))
        return rest

    def _break(self) -> None:
        self.close_connection = True

    def ok(self) -> None:
        self.wfile.write(self._rest())

    def dropping(self) -> None:
        """A fifth of the file, and then the connection breaks."""
        self.wfile.write(self._rest()[: len(self.web.content) // 5 + 1])
        self._break()

    def dead(self) -> None:
        """The head and nothing else, every time."""
        self._rest()
        self._break()

    def rangeless(self) -> None:
        """Knows nothing of ranges, and breaks the first time."""
        self._head(200, len(self.web.content))
        share = 2 if self._times == 1 else 1
        self.wfile.write(self.web.content[: len(self.web.content) // share])
        self._break()

    def stalling(self) -> None:
        """Half of the file, and then silence, the first time."""
        rest = self._rest()
        if self._times > 1:
            self.wfile.write(rest)
            return
        self.wfile.write(rest[: len(rest) // 2])
        self.wfile.flush()
        self.web.released.wait(10)
        self._break()

    def dripping(self) -> None:
        """A byte at a time, so that no single wait is long."""
        rest = self._rest()
        for place in range(len(rest)):
            if self.web.released.is_set():
                break
            self.wfile.write(rest[place : place + 1])
            self.wfile.flush()
            time.sleep(0.02)
        self._break()

    def lying(self) -> None:
        """Says that the file is longer than it is."""
        self._head(200, len(self.web.content) + 1000)
        self.wfile.write(self.web.content)
        self._break()

    def endless(self) -> None:
        """Does not say how long it is, and does not end."""
        self._head(200, None, Transfer_Encoding="chunked")
        piece = bytes(2**16)
        for _ in range(10_000):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def unsaid(self) -> None:
        """In pieces, without saying how long it is."""
        self._head(200, None, Transfer_Encoding="chunked")
        for begin in range(0, len(self.web.content), 5000):
            piece = self.web.content[begin : begin + 5000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def elsewhere(self) -> None:
        """Sends another part than was asked for."""
        begin = self._begin()
        if not begin:
            self.dropping()
            return
        whole = len(self.web.content)
        self._head(206, whole - 7, Content_Range=f"bytes 7-{whole - 1}/{whole}")
        self.wfile.write(self.web.content[7:])

    def _half_of_another(self) -> None:
        """Half of a file that is replaced the next moment."""
        other = bytes(len(self.web.content))
        self._head(200, len(other))
        self.wfile.write(other[: len(other) // 2])
        self.web.etag = '"other"'
        self._break()

    def changing(self) -> None:
        """Another file between the first request and the second, whatever the client knows."""
        if self._times == 1:
            self._half_of_another()
            return
        wanted = self.headers.get("Range")
        if wanted:
            # A server that does not heed If-Range.
            begin, whole = int(wanted[6:-1]), len(self.web.content)
            self._head(206, whole - begin, Content_Range=f"bytes {begin}-{whole - 1}/{whole}")
            self.wfile.write(self.web.content[begin:])
            return
        self.ok()

    def replaced(self) -> None:
        """The same by the book: the range is for the old file only."""
        if self._times == 1:
            self._half_of_another()
            return
        self.ok()

    def wrong(self) -> None:
        """A file of the right length and another content."""
        self._head(200, len(self.web.content))
        self.wfile.write(bytes(len(self.web.content)))

    def page(self) -> None:
        """A page that says sorry."""
        page = b"<html>sorry, quota exceeded</html>"
        self._head(200, len(page), Content_Type="text/html")
        self.wfile.write(page)

    def packed(self) -> None:
        self._head(200, len(self.web.content), Content_Encoding="gzip")
        self.wfile.write(self.web.content)

    def busy(self) -> None:
        """Asks to be left alone, the first two times."""
        if self._times > 2:
            self.ok()
        else:
            self._head(503, 0, Retry_After="0")

    def gone(self) -> None:
        self._head(404, 0)

    def named(self) -> None:
        """Would like to choose where the file goes."""
        name = "../../../../evil.pth"
        self._head(200, len(self.web.content), Content_Disposition=f'attachment; filename="{name}"')
        self.wfile.write(self.web.content)

    def waiting(self) -> None:
        """Half of the file, and the rest when a test says so."""
        rest = self._rest()
        self.wfile.write(rest[: len(rest) // 2])
        self.wfile.flush()
        self.web.released.wait(30)
        self.wfile.write(rest[len(rest) // 2 :])

    def _for_ever(self, text: bytes) -> None:
        while not self.web.released.is_set():
            self.wfile.write(text)
            self.wfile.flush()
            time.sleep(0.05)

    def continuing(self) -> None:
        """Promises to go on, again and again."""
        self._for_ever(b"HTTP/1.1 100 Continue\r\n\r\n")

    def heading(self) -> None:
        """A header without an end."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self._for_ever(b"x")

    def trailing(self) -> None:
        """In pieces, and then lines behind the last one without an end."""
        self._head(200, None, Transfer_Encoding="chunked")
        self.wfile.write(b"%x\r\n%s\r\n0\r\n" % (len(self.web.content), self.web.content))
        self._for_ever(b"x: y\r\n")

    def cut(self) -> None:
        """Closes at the end without having said how long the file is, too early the first time."""
        self._head(200, None, Connection="close")
        share = 2 if self._times == 1 else 1
        self.wfile.write(self.web.content[: len(self.web.content) // share])
        self._break()

    def portal(self) -> None:
        """Breaks off, then a page of somebody else, then the rest."""
        if self._times == 2:
            self.page()
        else:
            self.dropping()

    def bracket(self) -> None:
        self._head(302, 0, Location="http://[bad")

    def nowhere(self) -> None:
        self._head(302, 0)

    def digits(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "9" * 5000)
        self.end_headers()

    def escaping(self) -> None:
        self.wfile.write(b"HTTP/1.1 404 \x1b]0;pwned\x07\r\nContent-Length: 0\r\n\r\n")

    def moved(self) -> None:
        self._head(302, 0, Location="/ok/other-name.pth")

    def circling(self) -> None:
        self._head(302, 0, Location="/circling/tiny.pth")

    def leaving(self) -> None:
        self._head(302, 0, Location="file:///etc/passwd")

    def insecure(self) -> None:
        self._head(302, 0, Location="http://127.0.0.1:1/ok/tiny.pth")


@contextmanager
def served(content: bytes, certificate: tuple[str, str] | None = None) -> Iterator[Web]:
    """Serve a file on a port of this machine, with a certificate and its key over https."""
    web = Web(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": web}))
    if certificate:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    web.address = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    with answering(server):
        try:
            yield web
        finally:
            web.released.set()


@contextmanager
def answering(server: ThreadingHTTPServer) -> Iterator[None]:
    """Let a server answer in a thread of its own, and close it."""
    # By default, closing takes half a second.
    poll = {"poll_interval": 0.01}
    threading.Thread(target=server.serve_forever, kwargs=poll, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
