"""What tests of `diffir batch` look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import Result

BUCKET = "pictures"
"""Of the S3 server that tests start."""


def tree(folder: Path) -> dict[str, bytes]:
    """Content of all files that are not hidden, by path below the folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def lines(result: Result) -> list[dict[str, Any]]:
    """The objects that a run with `--json` has printed."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def objects(store: Any, folder: str) -> dict[str, bytes]:
    """Content of all objects that are not hidden, by path below the folder."""
    store.invalidate_cache()
    place = f"{BUCKET}/{folder}"
    found = {key.removeprefix(f"{place}/"): store.cat_file(key) for key in store.find(place)}
    return {key: data for key, data in found.items() if not key.startswith(".")}
