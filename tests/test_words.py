"""Names use the words of this field: those of the first edition do not come back."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "diffir_cli"

RETIRED = frozenset(
    re.findall(
        r"\w+",
        """
        wish wished wishes talk say said told telling twin twins surroundings examine guess guesses
        undone rough treatment patience refusing worded crew hire tend halt stillborn caution
        forgive critics falls roof roofs fresh mend extent
        """,
    )
)
"""Words that no name in the package is made of."""


def words_of(name: str) -> set[str]:
    return {part.lower() for part in re.split(r"_|(?<=[a-z])(?=[A-Z])", name) if part}


def test_no_name_is_made_of_a_retired_word() -> None:
    found: set[tuple[str, str]] = set()
    for path in PACKAGE.rglob("*.py"):
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                if token.type == tokenize.NAME and words_of(token.string) & RETIRED:
                    found.add((path.name, token.string))
    assert not found


def test_words_of_names_are_told_apart() -> None:
    assert words_of("readTwin_of") == {"read", "twin", "of"}


def test_prose_of_the_package_has_none_of_the_worst() -> None:
    pattern = re.compile(r"\b(guess|guesses|twin|twins|wish|wishes|roof|mend)\b", re.IGNORECASE)
    found = {
        f"{path.relative_to(PACKAGE)}: {match[0]}"
        for path in PACKAGE.rglob("*.py")
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    }
    assert not found
