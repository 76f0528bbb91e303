"""Which file belongs to which: by name, never by sort order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from diffir_cli.errors import InputError
from diffir_cli.imaging import list_pictures
from diffir_cli.util.files import check_reachable, is_file
from diffir_cli.util.names import by_stem, stem_of


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
    if is_file(first) and is_file(second):
        return Matched([(first, second)], [])
    firsts, seconds = files_of(first), files_of(second)
    by_stem(firsts)
    partners = by_stem(seconds)
    found = {partners[stem_of(path)]: path for path in firsts if stem_of(path) in partners}
    rest = {stem: partner for stem, partner in partners.items() if partner not in found}
    exact = len(found)
    for path in firsts:
        stem = None if stem_of(path) in partners else _longest_start(stem_of(path), rest)
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


def files_of(place: Path) -> list[Path]:
    """A file alone, or the pictures of a folder.

    Raises:
        InputError: when it cannot be reached, or is a folder that is missing or empty.
    """
    check_reachable(place)
    return [place] if place.is_file() else list_pictures(place)


def _longest_start(stem: str, known: dict[str, Path]) -> str | None:
    """The longest known name that this one continues with a suffix."""
    starts = [name for name in known if stem.startswith(name)]
    for name in sorted(starts, key=len, reverse=True):
        if _SUFFIX.fullmatch(stem[len(name) :]):
            return name
    return None


_SUFFIX = re.compile(r"x\d.*|[ _.-](?![0-9 _.-]*$).*", re.DOTALL)
"""What tools put behind a name; neither `img10` nor `img1_2` continues `img1`."""
