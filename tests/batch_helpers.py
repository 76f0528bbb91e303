"""What tests of `diffir batch` look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import Result


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
