"""`diffir restore` within a given memory, and by the engine that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffir_cli.cli.option_values import parse_size, parse_tile
from diffir_cli.errors import UsageError


def test_a_picture_that_does_not_fit_is_refused_before_anything_is_written(
    photos: Path, restore: Any, tmp_path: Path
) -> None:
    limits = ("--max-memory", "1M", "--tile", "off")
    result = restore(photos / "0.png", tmp_path / "a.png", *limits)
    assert result.exit_code == 5 and "--tile auto" in result.stderr
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("4G", 2**32), ("1.5gib", 3 * 2**29), ("800M", 800 * 2**20)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0", "-4G", "4X", "G", "four", "0.0001"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-memory must be a size"):
        parse_size(text)


def test_tiles_are_a_side_or_a_word() -> None:
    assert (parse_tile("auto", 32), parse_tile("off", 32), parse_tile("512", 32)) == (None, 0, 512)
    for text in ("0", "-8", "big", "31", "²"):
        with pytest.raises(UsageError):
            parse_tile(text, 0)
    with pytest.raises(UsageError, match="twice --tile-overlap 32"):
        parse_tile("63", 32)
