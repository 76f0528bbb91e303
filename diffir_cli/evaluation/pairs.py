"""Which file belongs to which: by name, never by sort order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffir_cli.errors import InputError
from diffir_cli.imaging import list_pictures


@dataclass(frozen=True)
class Matched:
    """What two folders have in common."""

    pairs: list[tuple[Path, Path]]
    """(file of the first folder, its twin), sorted by the name of the twin."""
    unmatched: list[Path]
    """Files of either folder without a twin."""


def match_folders(first: Path, second: Path) -> Matched:
    """Files of `first` with their twins in `second`.

    A twin has the same name up to the ending; else the name of the first may go on behind the
    twin's with `x4`, `_out`, `-restored` or the like: `baby.png` is a twin of `babyx4.png` and
    `baby_sr.jpg`. Either may be one file, which then is the twin of the other whatever its name.

    Raises:
        InputError: when a folder is missing or empty, a name is claimed twice, or nothing matches.
    """
    if first.is_file() and second.is_file():
        return Matched([(first, second)], [])
    firsts, seconds = _files(first), _files(second)
    _refuse_twins(firsts)
    by_stem = _refuse_twins(seconds)
    found: dict[Path, Path] = {}
    for path in firsts:
        stem = path.stem if path.stem in by_stem else _longest_start(path.stem, by_stem)
        if stem is None:
            continue
        twin = by_stem[stem]
        if twin in found:
            raise InputError(
                f"{found[twin]} and {path} both belong to {twin}", "move one of them away"
            )
        found[twin] = path
    if not found:
        raise InputError(
            f"no file of {first} has a twin of the same name in {second}",
            f"{firsts[0].name} is the first there, {seconds[0].name} here",
        )
    pairs = [(found[twin], twin) for twin in seconds if twin in found]
    taken = {*found, *found.values()}
    return Matched(pairs, [path for path in (*firsts, *seconds) if path not in taken])


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else list_pictures(place)


def _refuse_twins(paths: Sequence[Path]) -> dict[str, Path]:
    by_stem: dict[str, Path] = {}
    for path in paths:
        if path.stem in by_stem:
            raise InputError(
                f"{by_stem[path.stem]} and {path} have the same name up to the ending",
                "move one of them away",
            )
        by_stem[path.stem] = path
    return by_stem


def _longest_start(stem: str, known: dict[str, Path]) -> str | None:
    """The longest known name that this one continues with a suffix."""
    starts = [name for name in known if stem.startswith(name)]
    for name in sorted(starts, key=len, reverse=True):
        if _SUFFIX.fullmatch(stem[len(name) :]):
            return name
    return None


_SUFFIX = re.compile(r"(x\d.*|[ _.-].*)", re.DOTALL)
"""What tools put behind a name; `img10` does not continue `img1`."""
