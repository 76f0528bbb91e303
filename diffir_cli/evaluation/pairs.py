"""Which file belongs to which: by name, never by sort order."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diffir_cli.errors import InputError
from diffir_cli.imaging import list_pictures


@dataclass(frozen=True)
class Matched:
    """What two folders have in common."""

    pairs: list[tuple[Path, Path]]
    """(file of the first folder, its partner), sorted by the name of the partner."""
    unmatched: list[Path]
    """Files of either folder without a partner."""
    alike: list[tuple[Path, Path]] = field(default_factory=list)
    """Those of the pairs whose names only begin alike."""


def match_folders(first: Path, second: Path) -> Matched:
    """Files of `first` with their partners in `second`.

    A partner has the same name up to the ending. For what is left, the name of the first may go on
    behind the partner's with `x4`, `_out`, `-restored` or the like, but not with a mere number:
    `babyx4.png` and `baby_sr.jpg` are partners of `baby.png`, `baby_2.png` is not. Two single files
    are partners whatever their names.

    Raises:
        InputError: when a folder is missing or empty, a name is claimed twice, or nothing matches.
    """
    if first.is_file() and second.is_file():
        return Matched([(first, second)], [])
    firsts, seconds = _files(first), _files(second)
    _refuse_duplicates(firsts)
    by_stem = _refuse_duplicates(seconds)
    found = {by_stem[_stem(path)]: path for path in firsts if _stem(path) in by_stem}
    rest = {stem: partner for stem, partner in by_stem.items() if partner not in found}
    exact = len(found)
    for path in firsts:
        stem = None if _stem(path) in by_stem else _longest_start(_stem(path), rest)
        if stem is None:
            continue
        partner = rest[stem]
        if partner in found:
            raise InputError(
                f"{found[partner]} and {path} both belong to {partner}", "move one of them away"
            )
        found[partner] = path
    if not found:
        raise InputError(
            f"no file of {first} has the same name as one of {second}",
            f"{firsts[0].name} is the first there, {seconds[0].name} here",
        )
    pairs = [(found[partner], partner) for partner in seconds if partner in found]
    taken = {*found, *found.values()}
    unmatched = [path for path in (*firsts, *seconds) if path not in taken]
    alike = [(path, partner) for partner, path in list(found.items())[exact:]]
    return Matched(pairs, unmatched, alike)


def _stem(path: Path) -> str:
    """The name up to the ending, with accents in the one form that can be compared."""
    return unicodedata.normalize("NFC", path.stem)


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else list_pictures(place)


def _refuse_duplicates(paths: Sequence[Path]) -> dict[str, Path]:
    by_stem: dict[str, Path] = {}
    for path in paths:
        if _stem(path) in by_stem:
            raise InputError(
                f"{by_stem[_stem(path)]} and {path} have the same name apart from the extension",
                "move one of them away",
            )
        by_stem[_stem(path)] = path
    return by_stem


def _longest_start(stem: str, known: dict[str, Path]) -> str | None:
    """The longest known name that this one continues with a suffix."""
    starts = [name for name in known if stem.startswith(name)]
    for name in sorted(starts, key=len, reverse=True):
        if _SUFFIX.fullmatch(stem[len(name) :]):
            return name
    return None


_SUFFIX = re.compile(r"x\d.*|[ _.-](?![0-9 _.-]*$).*", re.DOTALL)
"""What tools put behind a name; neither `img10` nor `img1_2` continues `img1`."""
