"""Files that `--json` made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffir_cli.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of JSON.

    Raises:
        InputError: when the file cannot be read, or holds no such object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "check the name") from error
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON: {error}", "name a file that --json made"
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object", "name a file that --json made")
    return found
