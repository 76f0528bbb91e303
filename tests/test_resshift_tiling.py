"""Our tiles beside those of the official ResShift sampler, which differ in two known points.

The official sampler moves the last tile back until it ends with the image and averages overlaps
with equal weights; here tiles are spread evenly and blended by a raised cosine. With the official
starts and weights in their place, everything else must give the official picture.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffir_cli.util import tiling
from tests.resshift_golden import OWN, arrays

TILE, OVERLAP, SCALE = 8, 3, 2


def _official_starts(side: int, tile: int, overlap: int) -> list[int]:
    """As `tiling_starts.json` has them."""
    if side <= tile:
        return [0]
    begins = (min(begin, side - tile) for begin in range(0, side, tile - overlap))
    return list(dict.fromkeys(begins))


def _cases() -> list[dict[str, Any]]:
    return json.loads((OWN / "tiling_starts.json").read_text())


def _numbered(image: Tensor) -> Tensor:
    """The image in tiles: each enlarged by nearest neighbours, and its number added."""
    numbers = iter(range(1000))

    def restore(tile: Tensor, left: int, top: int) -> Tensor:
        del left, top
        return F.interpolate(tile, scale_factor=SCALE, mode="nearest") + next(numbers)

    return tiling.blended(image, SCALE, TILE, OVERLAP, 1, restore)


def test_an_official_size_of_tiles_needs_as_many_tiles_here() -> None:
    for case in _cases():
        length, tile, official = case["length"], case["tile"], case["starts"]
        found = tiling.starts(length, tile, tile - case["stride"])
        assert len(found) == len(official), case
        assert (found[0], found[-1]) == (official[0], official[-1]), case
        # Evenly, so that no two neighbours share less than there.
        widest = max((b - a for a, b in itertools.pairwise(found)), default=0)
        assert widest <= case["stride"], case
        assert official == _official_starts(length, tile, tile - case["stride"])


def test_with_official_starts_and_equal_weights_the_blend_is_the_official_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    golden = arrays("tiling_blend")
    monkeypatch.setattr(tiling, "starts", _official_starts)
    monkeypatch.setattr(tiling, "ramp", lambda length, *_, **__: torch.ones(length))
    torch.testing.assert_close(_numbered(golden["im"]), golden["out"], atol=1e-5, rtol=0)


def test_where_one_tile_is_alone_the_blend_is_the_official_one() -> None:
    golden = arrays("tiling_blend")
    found, corner = _numbered(golden["im"]), SCALE * 2
    for rows in (slice(corner), slice(-corner, None)):
        for columns in (slice(corner), slice(-corner, None)):
            area = (..., rows, columns)
            torch.testing.assert_close(found[area], golden["out"][area], atol=1e-5, rtol=0)
