"""Tiles: where they lie, how small they can be, and how they are blended."""

from __future__ import annotations

import errno
import importlib
import itertools
import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffir_cli.errors import DeviceError
from diffir_cli.models.base import ModelInfo
from diffir_cli.options import MemoryLimits
from diffir_cli.runtime.memory import _tile_sides, plan_run, smallest_tile
from diffir_cli.util.tiling import blended, starts, tile_places
from diffir_cli.weights.registry import read_registry

CPU = torch.device("cpu")


@given(side=st.integers(1, 500), tile=st.integers(2, 90), data=st.data())
def test_tiles_cover_a_side_and_overlap_as_much_as_asked(
    side: int, tile: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    begins = starts(side, tile, overlap)
    assert begins[0] == 0 and begins[-1] + tile >= side
    assert begins[-1] <= max(side - tile, 0)
    for before, after in itertools.pairwise(begins):
        assert before < after <= before + tile - overlap


@pytest.mark.parametrize("name", sorted(read_registry()))
@pytest.mark.parametrize("overlap", [0, 1, 32, 100])
def test_automatic_tiles_of_every_network_shrink_to_the_smallest_that_overlap(
    name: str, overlap: int
) -> None:
    info = _info(name)
    sides = list(_tile_sides(4096, info.tiling.tile, overlap, info))
    assert sides == sorted(set(sides), reverse=True)
    assert sides[-1] == smallest_tile(info, overlap) or sides[-1] <= max(64, 2 * overlap)
    assert info.multiple % info.tiling.step == 0
    for side in sides:
        assert side >= info.multiple and side % info.multiple == 0
        places = tile_places(4096, 8192, side, min(overlap, side // 2), info.tiling.step)
        assert all(place % info.tiling.step == 0 for both in places for place in both)
        assert (4096 - side, 8192 - side) == places[-1]
        lefts = sorted({left for _, left in places})
        shared = min(side - after + before for before, after in itertools.pairwise(lefts))
        assert shared >= min(overlap, side // 2)


def _info(name: str) -> ModelInfo:
    entry = read_registry()[name]
    module = importlib.import_module(f"diffir_cli.models.{entry.family}.model")
    info: ModelInfo = module.info_of(entry.model)
    return info


@pytest.mark.parametrize("name", ["inpaint-lite", "realsr-x1", "resshift-realsr-x4"])
def test_the_smallest_tiles_that_can_be_chosen_overlap(name: str) -> None:
    info = _info(name)
    model: Any = SimpleNamespace(
        info=info, memory=lambda *_size: 1, context_memory=lambda *_size: 1
    )
    plan = plan_run(model, 2048, 1024, CPU, MemoryLimits(0, tile=32, overlap=16))
    assert plan.tile == 64
    assert len(tile_places(1024, 2048, 64, 16, info.tiling.step)) > 16 * 32


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("bound", [10**9, 0])
def test_tiles_that_agree_are_blended_into_what_they_agree_on(scale: int, bound: int) -> None:
    image = torch.rand(1, 3, 48, 72)

    def enlarged(part: torch.Tensor, left: int, top: int) -> torch.Tensor:
        assert part.shape[2] <= 32 and part.shape[3] <= 32
        assert torch.equal(part, image[:, :, top : top + 32, left : left + 32])
        return part.repeat_interleave(scale, 2).repeat_interleave(scale, 3)

    found = blended(image, scale, 32, 8, 8, enlarged, bound)
    torch.testing.assert_close(found, enlarged_whole(image, scale), atol=1e-6, rtol=0)


def enlarged_whole(image: torch.Tensor, scale: int) -> torch.Tensor:
    return image.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def test_no_space_for_a_result_in_a_file_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DeviceError, match=r"no temporary file of .* No space left") as caught:
        blended(torch.zeros(1, 3, 32, 32), 1, 16, 0, 8, lambda part, *_place: part, bound=0)
    assert "TMPDIR" in caught.value.hint


def test_a_step_between_two_tiles_is_blended_smoothly() -> None:
    """Tiles that disagree by 1 meet without one: no two neighbours differ by more than a ramp."""
    values = iter([0.0, 1.0])
    found = blended(
        torch.zeros(1, 3, 8, 48), 1, 32, 16, 8, lambda part, *_place: part + next(values)
    )
    row = found[0, 0, 4]
    assert row[0] == 0 and row[-1] == 1
    assert float(row.diff().max()) < 0.12 and float(row.diff().min()) >= 0


def test_tiles_without_overlap_stand_side_by_side() -> None:
    lq = torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(blended(lq, 1, 32, 0, 8, lambda tile, *_place: tile), lq)
