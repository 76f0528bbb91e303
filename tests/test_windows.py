"""Windows of training: cut from their pictures, deconvolved once, degraded enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffir_cli.errors import InputError
from diffir_cli.training.data import Crops
from diffir_cli.training.kinds import Augment
from diffir_cli.training.sources import Crop, Pair, StoredPairs
from diffir_cli.training.windows import Windows
from tests.conftest import noise_image
from tests.training_helpers import make_recipe


class Negative:
    """A prior that is the negative of each window."""

    def __init__(self, note: Callable[[Sequence[Tensor], Tensor], None]) -> None:
        self.note = note

    def of_windows(self, windows: Sequence[Tensor], whole: Tensor) -> list[Tensor]:
        self.note(windows, whole)
        return [1 - window for window in windows]

    def behind(self, lq: Tensor) -> Tensor:
        return torch.cat([lq, 1 - lq], dim=1)


def test_windows_are_deconvolved_once_and_crops_show_the_same_place_of_all_three(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def note(windows: Sequence[Tensor], whole: Tensor) -> None:
        asked.append((*(window.shape for window in windows), whole.shape))

    monkeypatch.setattr("diffir_cli.training.sources.degraded", lambda gt, *_: gt // 2)
    model = {"scale": 1, "tail": "conv", "in_channels": 6}
    shakes = {"degradation": "shake", "patch": 16, "windows": 3, "window": 64}
    recipe = make_recipe(photos, model=model, data=shakes)
    crops, others = Crops.of(recipe, Negative(note)), Crops.of(recipe, Negative(note))
    batches = [crops.batch(iteration, 16, 8) for iteration in range(4)]
    assert asked == [((3, 64, 64), (3, 64, 64))] * 3
    for batch in batches:
        levels = (batch.gt * 255).round()
        torch.testing.assert_close(batch.lq[:, :3] * 255, levels.div(2, rounding_mode="floor"))
        torch.testing.assert_close(batch.lq[:, 3:], 1 - batch.lq[:, :3], atol=2e-3, rtol=0)
    # In another order the windows are the same, as a training that is continued needs.
    assert torch.equal(others.batch(3, 16, 8).lq, batches[3].lq)


def test_processes_divide_the_windows_and_get_the_batches_of_a_single_process(
    photos: Path,
) -> None:
    model = {"scale": 1, "tail": "conv", "in_channels": 6}
    data = {"degradation": "shake", "patch": 16, "windows": 12, "window": 64}
    recipe = make_recipe(photos, model=model, data=data)
    made: list[list[Tensor]] = [[], [], []]

    def noting(own: list[Tensor]) -> Crops:
        return Crops.of(recipe, Negative(lambda windows, _whole: own.extend(windows)))

    alone, *both = map(noting, made)
    for iteration in range(80):
        size = 4 if iteration < 40 else 2
        whole = alone.batch(iteration, 16, size)
        for rank, process in enumerate(both):
            part = process.batch(iteration, 16, size, rank, 2)
            assert torch.equal(part.lq, whole.lq[rank::2])
    assert len(made[0]) == 12, "a single process makes all windows"
    assert len(made[1]) == len(made[2]) == 6, "smaller batches need no others"


def test_crops_come_from_all_windows_of_all_pictures() -> None:
    class Numbered:
        """Two windows of each picture, of a level that no other window has."""

        per_picture = 2

        def crop(self, *_: object) -> Crop:
            raise NotImplementedError

        def windows(self, _rng: np.random.Generator, side: int) -> tuple[list[Pair], Any]:
            made.extend(range(len(made), len(made) + 2))
            plane = np.ones((side, side, 3), np.uint8)
            pairs = [(plane * level, plane * level) for level in made[-2:]]
            return pairs, plane

    made: list[int] = []
    windows = Windows(Numbered(), 9, 16, Augment.ALL, [0], Negative(lambda *_: None))
    rng = np.random.default_rng(0)
    seen = [int(windows.crop(rng, 8, index, 4).gt.max()) for _ in range(500) for index in range(4)]
    counts = np.bincount(seen)
    assert len(counts) == len(made) == 10, "nine windows are rounded up to five pictures"
    # One of the four crops has two of the five pictures: their windows are seen half as often.
    assert sorted(np.round(counts / 125)) == [1] * 4 + [2] * 6


def test_a_window_of_a_stored_pair_knows_the_picture_that_it_is_a_part_of() -> None:
    lq = noise_image(40, 60)
    source = StoredPairs([(lq, 255 - lq)], 1, 32, Augment.ALL)
    for seed in range(8):
        windows, whole = source.windows(np.random.default_rng(seed), 32)
        rows, columns = (side - 31 for side in whole.shape[:2])
        for inside, truth in windows:
            np.testing.assert_array_equal(truth, 255 - inside)
            assert any(
                np.array_equal(whole[top : top + 32, left : left + 32], inside)
                for top in range(rows)
                for left in range(columns)
            )


def test_windows_of_pairs_that_are_hardly_degraded_are_left_out() -> None:
    gt = np.full((40, 40, 3), 100, dtype=np.uint8)
    clean, bad = (gt + step for step in (1, 20))
    pairs = [(clean.astype(np.uint8), gt), (bad.astype(np.uint8), gt)]
    source = StoredPairs(pairs, 1, 32, Augment.ALL, below=36.0)
    for seed in range(8):
        windows, _ = source.windows(np.random.default_rng(seed), 32)
        assert all((lq == 120).all() for lq, _ in windows)
    with pytest.raises(InputError, match="have 36 dB or more"):
        StoredPairs(pairs[:1], 1, 32, Augment.ALL, below=36.0).windows(np.random.default_rng(0), 32)


def test_windows_of_one_picture_are_made_together_and_each_source_chooses_its_own_photos(
    photos: Path,
) -> None:
    looked_at: list[int] = []
    prior = Negative(lambda windows, _whole: looked_at.append(len(windows)))
    task = {
        "model": {"scale": 1, "tail": "conv", "in_channels": 6, "gated": True},
        "data": {
            "degradation": "shake",
            "frames_share": 0.5,
            "patch": 16,
            "windows": 20,
            "window": 64,
        },
    }
    shakes, frames = Crops.of(make_recipe(photos, **task), prior).sources
    chosen: dict[str, list[int]] = {"shakes": [], "frames": []}
    for name, windows in (("shakes", shakes), ("frames", frames)):
        source = windows.source  # type: ignore[attr-defined]
        choose = source.photos.choose

        def noted(random: np.random.Generator, name: str = name, choose: Any = choose) -> int:
            chosen[name].append(choose(random))
            return chosen[name][-1]

        source.photos.choose = noted
        for picture in range(10):
            windows.windows(picture)  # type: ignore[attr-defined]
    assert looked_at == [1] * 10 + [2] * 10
    assert chosen["shakes"] != chosen["frames"]
