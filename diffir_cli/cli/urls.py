"""URLs where a file on this machine is wanted: refused as they were typed, with what to do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from diffir_cli.errors import InputError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://.*", re.DOTALL)


def refuse_url(path: Path, typed: Sequence[str], piped: bool) -> None:
    """Refuse a URL where a file is wanted.

    Args:
        path: The value of an argument or option, which has lost a slash.
        typed: All arguments.
        piped: Whether the file may be piped in instead.

    Raises:
        InputError: when it is one.
    """
    values = (word.partition("=")[2] if word.startswith("--") else word for word in typed)
    urls = (_URL.match(value) for value in values)
    url = next((url for url in urls if url and Path(url[0]) == path), None)
    if url is None:
        return
    value, kind = url[0], url[1].lower()
    if kind == "file":
        hint = "write the path without file://"
    elif kind not in ("http", "https"):
        hint = "copy it to this machine, or use diffir batch, which reads and writes object stores"
    elif piped:
        hint = f"curl -sL {shlex.quote(value)} | diffir restore - -o FILE"
    else:
        hint = "name a file on this machine: curl downloads, and uploads what is written"
    raise InputError(f"{value} is a URL, not a file", hint)
