"""Names of files, by which pairs are found: without their endings, and never by sort order."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from diffir_cli.errors import InputError


def stem_of(path: Path) -> str:
    """The name up to the ending, with accents in the one form that can be compared."""
    return unicodedata.normalize("NFC", path.stem)


def by_stem(paths: Iterable[Path], hint: str = "move one of them away") -> dict[str, Path]:
    """Files by their names up to the ending.

    Args:
        paths: The files.
        hint: What to do about two files of one name.

    Raises:
        InputError: when two have the same name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(stem_of(path), path)
        if other is not path:
            raise InputError(
                f"{other} and {path} have the same name apart from the extension", hint
            )
    return found
