"""Google Drive on this machine: the pages of folders, of confirmations and of refusals.

They are those that gdown reads, which has its real addresses: requests to Google's hosts are sent
to a port of this machine instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.web import answering

FOLDER = "1FolderFolderFolderFolderFolder"
_BELOW = "1BelowBelowBelowBelowBelowBelow"
_SIGN_IN = "<html><head><title>Google Drive: Sign-in</title></head><body>Sign in</body></html>"
_QUOTA = (
    "<html><head><title>Google Drive - Quota exceeded</title></head><body>"
    '<p class="uc-error-caption">Sorry, you can&#39;t view or download this file.</p>\n'
    '<p class="uc-error-subcaption">Too many users have viewed or downloaded this file '
    "recently. Please try accessing the file again later.</p></body></html>"
)


def identifier(name: str) -> str:
    """A file's identifier, as long as those of Google."""
    return "1" + re.sub(r"\W", "_", name).ljust(32, "x")


@dataclass
class Drive:
    """What the folder holds, how it answers, and what it was asked for."""

    files: dict[str, bytes]
    """By name; a name with a slash lies in a folder below."""
    way: str = "ok"
    """`ok`, or what goes wrong: quota, sign-in, closed, stranger, page."""
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def listing(self, below: str = "") -> str:
        """The page of the folder, or of that below it."""
        links = []
        for name in self.files:
            folder, _, bare = name.rpartition("/")
            if folder == below:
                url = f"https://drive.google.com/file/d/{identifier(name)}/view?usp=drive_web"
                links.append(f'<a href="{url}"><div>{bare}</div></a>')
        if not below and any("/" in name for name in self.files):
            url = f"https://drive.google.com/drive/folders/{_BELOW}"
            links.append(f'<a href="{url}"><div>below</div></a>')
        head = f"<head><title>{below or 'Weights'}</title></head>"
        return f"<html>{head}<body>{''.join(links)}</body></html>"

    def confirmation(self, file: str) -> str:
        """What Google asks before it sends what it has not looked through for viruses."""
        hidden = {"id": file, "export": "download", "confirm": "t", "uuid": "0-1-2"}
        inputs = "".join(f'<input type="hidden" name="{k}" value="{v}">' for k, v in hidden.items())
        action = "https://drive.usercontent.google.com/download"
        form = f'<form id="download-form" action="{action}" method="get">{inputs}</form>'
        return f"<html><body>Google Drive can't scan this file for viruses.\n{form}</body></html>"


class _Handler(BaseHTTPRequestHandler):
    drive: Drive

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        drive, parts = self.drive, urlsplit(self.path)
        file = parse_qs(parts.query).get("id", [""])[0]
        drive.asked.append(self.path)
        if parts.path.endswith("/embeddedfolderview"):
            if drive.way == "closed":
                self._send(404, b"", "text/html")
            elif drive.way == "sign-in":
                self._page(_SIGN_IN)
            else:
                self._page(drive.listing("below" if file == _BELOW else ""))
        elif drive.way in ("quota", "stranger"):
            self._page(_QUOTA if drive.way == "quota" else _SIGN_IN)
        elif parts.path.endswith("/uc"):
            self._page(drive.confirmation(file))
        else:
            content = {identifier(name): data for name, data in drive.files.items()}[file]
            data = b"<!DOCTYPE html><html>sorry</html>" if drive.way == "page" else content
            self._send(200, data, "application/octet-stream", 'attachment; filename="x.pth"')

    def _page(self, text: str) -> None:
        self._send(200, text.encode(), "text/html; charset=utf-8")

    def _send(self, code: int, data: bytes, kind: str, disposition: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if disposition:
            self.send_header("Content-Disposition", disposition)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def drive_served(files: dict[str, bytes], patch: pytest.MonkeyPatch) -> Iterator[Drive]:
    """Serve files as Google Drive does, for whatever asks Google in the block."""
    drive = Drive(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"drive": drive}))
    drive.address = f"http://127.0.0.1:{server.server_port}"
    real = requests.Session.request

    def request(session: requests.Session, method: str, url: str, **options: Any) -> Any:
        here = re.sub(r"^https://([\w.]+)\.google\.com", drive.address + r"/\1", url)
        return real(session, method, here, **options)

    patch.setattr(requests.Session, "request", request)
    with answering(server):
        yield drive
