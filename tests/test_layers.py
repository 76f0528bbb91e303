"""What no linter watches: only the command line prints."""

from __future__ import annotations

from pathlib import Path

import diffir_cli


def test_library_code_never_prints() -> None:
    package = Path(diffir_cli.__file__).parent
    for path in package.rglob("*.py"):
        if path.parent.name != "cli":
            assert "print(" not in path.read_text(encoding="utf-8"), path
